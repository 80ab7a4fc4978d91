"""The mechanics around jobs: Redis, enqueueing, progress, marks between processes, locks."""
