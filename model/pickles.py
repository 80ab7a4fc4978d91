"""Pickles of others read without executing anything of them: numpy arrays, numbers and texts in plain containers."""

from __future__ import annotations

import codecs
import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

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


@dataclass
class _Numbers:
    """What an array holds, in place of numpy's own type, which a pickle can make point anywhere in the memory."""

    dtype: np.dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take over the order of the bytes, the only thing that numbers have there."""
        _, order, *parts = state
        if order not in ("<", ">", "|", "=") or any(part is not None for part in parts[:3]):
            raise pickle.UnpicklingError("an array holds more than numbers")
        self.dtype = self.dtype.newbyteorder(order)


def _numbers(code: str, *_copied: bool) -> _Numbers:
    dtype = np.dtype(code) if isinstance(code, str) else np.dtype(object)
    if dtype.kind not in NUMBERS:
        raise pickle.UnpicklingError(f"an array holds {code!r:.20}, no numbers")
    return _Numbers(dtype)


def _array(data: bytes | str, numbers: _Numbers, shape: tuple[int, ...], order: str) -> np.ndarray:
    """An array as the fifth protocol writes it."""
    if order not in ("C", "F") or not isinstance(numbers, _Numbers):
        raise pickle.UnpicklingError(f"an array of {numbers!r:.20} has the order {order!r:.20}")
    content = data.encode("latin1") if isinstance(data, str) else data  # text: of Python 2
    return np.frombuffer(content, numbers.dtype).reshape(shape, order="C" if order == "C" else "F")


def _scalar(numbers: _Numbers, data: bytes | str) -> Any:
    return _array(data, numbers, (), "C")[()]


class _Array(np.ndarray):
    """An array that is filled by what earlier protocols write of it, once that is checked."""

    def __setstate__(self, state: tuple[Any, ...], /) -> None:
        *_, shape, numbers, is_fortran, data = state
        checked = _array(data, numbers, shape, "F" if is_fortran else "C")
        super().__setstate__(cast("Any", checked.__reduce__())[2])


def _empty(*_arguments: object) -> _Array:
    return np.zeros(0).view(_Array)


NUMBERS = "biufc"
"""Kinds of types of numpy's whose values are numbers, and no addresses in the memory."""

_CORES = ("numpy.core", "numpy._core")  # of numpy 1 and of numpy 2
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "ndarray",  # told to `_reconstruct`, and not to be called
    ("numpy", "dtype"): _numbers,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    **{(f"{core}.multiarray", "_reconstruct"): _empty for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _array for core in _CORES},
}
"""Everything that a pickle may name, and what it gets for it: nothing of numpy's, which trusts what it is given."""


class _Plain(pickle.Unpickler):
    """Builds what `ALLOWED` names and nothing else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}") from None
