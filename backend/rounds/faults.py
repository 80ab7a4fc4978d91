"""What stops work on a round: in words, and whether it mends elsewhere."""

from __future__ import annotations

from backend.errors import ImageUnavailable, NoDevice, NotFound, NothingToLearn, TooLarge, WrongToken
from model.errors import BadCheckpoint, BadVersion, is_gpu_failure, is_out_of_memory

MENDS_ELSEWHERE = (
    OSError,
    ImageUnavailable,
    WrongToken,
    NotFound,
    TooLarge,
    NothingToLearn,
    NoDevice,
    BadCheckpoint,
    BadVersion,
)

LONGEST_SHOWN = 200
"""Characters of what others say in an error."""


def mends_elsewhere(err: Exception) -> bool:
    """Whether a round that stopped has nothing to do but to wait until somebody has mended something."""
    return isinstance(err, MENDS_ELSEWHERE) or is_out_of_memory(err)


def in_words(err: Exception) -> str:
    """An error and what to do about it, in one line."""
    if isinstance(err, OSError):
        return f"DATA_DIR cannot be used ({err}); make room on that disk, or let it be written again"
    if is_out_of_memory(err):
        return (
            f"memory ran out ({' '.join(str(err).split())[:LONGEST_SHOWN] or type(err).__name__}); end what else fills "
            "it, or set a smaller train_batch_size or network_config"
        )
    if is_gpu_failure(err):
        return (
            f"the GPU failed ({' '.join(str(err).split())[:LONGEST_SHOWN]}); look at `nvidia-smi` and `dmesg`, restart "
            "the machine after standby or an update of the driver, or set `device: cpu`"
        )
    return f"{type(err).__name__}: {' '.join(str(err).split())}"
