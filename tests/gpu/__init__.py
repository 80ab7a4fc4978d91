"""The parts of `tests.gpu_check`, each of which runs in a process of its own."""
