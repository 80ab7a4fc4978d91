"""Child processes, their priority, and a Redis of our own."""
