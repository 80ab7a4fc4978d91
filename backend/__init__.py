"""The loop with Label Studio: web app, queue, rounds and the `maskal` command."""
