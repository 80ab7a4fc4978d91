"""Errors of the model package; each message says what was wanted, what came and what to do."""


class ModelError(Exception):
    """Base of all errors raised by this package."""


class BadRecord(ModelError):
    """An annotation cannot be turned into a training record."""


class BadCheckpoint(ModelError):
    """A weights file is missing, broken, or does not fit the engine."""


class BadVersion(ModelError):
    """The registry does not hold the version that was asked for, or its files are damaged."""


class NewerFormat(ModelError):
    """A file was written by a newer release, whose format this one does not know."""


class DamagedFile(ModelError, ValueError):
    """A JSON file holds something else; for those who read files of others' a wrong value like any other."""


class BadEngine(ModelError):
    """An engine or network name is unknown, or an engine's package is not installed."""


class BadImageFile(ModelError):
    """An image file cannot be read, or is too large."""


class NoOutline(ModelError):
    """Where somebody points to there is no object, as far as can be seen."""


SAID_WITHOUT_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "unable to find an engine to execute this computation",
    "Unable to find a valid cuDNN algorithm",
)
"""What torch says with a plain RuntimeError: its CPU allocator, the driver, cuBLAS and cuDNN, which have no room to
begin, and cuDNN for want of workspace.
"""

SAID_OF_FAILED_GPU = ("CUDA error", "CUDNN_STATUS_")


def is_out_of_memory(err: BaseException) -> bool:
    """Whether an error, torch's or Python's, says that memory ran out; needs no torch."""
    is_named_so = isinstance(err, MemoryError) or type(err).__name__ == "OutOfMemoryError"
    return is_named_so or any(text in str(err) for text in SAID_WITHOUT_MEMORY)


def is_gpu_failure(err: BaseException) -> bool:
    """Whether an error says that a GPU, or its driver, failed; needs no torch.

    That is final for the process: whatever it wants of the GPU from then on fails, too.
    """
    is_named_so = type(err).__name__ == "AcceleratorError" or any(text in str(err) for text in SAID_OF_FAILED_GPU)
    return is_named_so and not is_out_of_memory(err)
