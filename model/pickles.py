"""Pickles of others read without executing anything of them: numpy arrays, numbers and texts in plain containers."""

from __future__ import annotations

import codecs
import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from model.checkpoints import TORCH_ZIP, what_else
from model.errors import BadCheckpoint

READ_ERRORS = (
    pickle.UnpicklingError,
    ValueError,
    EOFError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
)
"""What reading a pickle raises that is cut off, broken, or holds something else."""


def load(path: Path) -> Any:
    """What a pickle holds, if that is plain; BadCheckpoint if it is missing, broken, or wants anything else built."""
    data = b""
    try:
        data = path.read_bytes()
        return _Plain(io.BytesIO(data), encoding="latin1").load()
    except OSError as err:
        raise BadCheckpoint(
            f"cannot read weights {path} ({err.strerror}); check the path and its access rights"
        ) from err
    except READ_ERRORS as err:
        reason = what_else(data, TORCH_ZIP) or (str(err).splitlines() or [type(err).__name__])[0]
        raise BadCheckpoint(
            f"wanted a pickle with numpy arrays only at {path}, got one that cannot be read safely ({reason}); "
            "download it again, or save the weights as a .pth file"
        ) from err


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into pickles that Python 2 can read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes are written as {encoding!r}")
    return codecs.encode(text, "latin1")


def _array(data: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """An array as the fifth protocol writes it."""
    if order not in ("C", "F"):
        raise pickle.UnpicklingError(f"an array's order is {order!r}")
    return np.frombuffer(data, dtype).reshape(shape, order="C" if order == "C" else "F")


_CORES = ("numpy.core", "numpy._core")  # of numpy 1 and of numpy 2
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    **{(f"{core}.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0] for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): np.float32(0).__reduce__()[0] for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _array for core in _CORES},
}
"""Everything that a pickle may name, and what it gets for it."""


class _Plain(pickle.Unpickler):
    """Builds what `ALLOWED` names and nothing else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}") from None
