"""Child processes, and a Redis of our own."""
