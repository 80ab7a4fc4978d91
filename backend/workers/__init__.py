"""What the workers run: the jobs, when each is due, and the processes that take them."""
