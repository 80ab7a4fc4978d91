"""Learning: a round from what is annotated to the queue that follows the new version."""
