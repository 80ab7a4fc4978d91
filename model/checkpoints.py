"""Weights on disk: safetensors of our own, and torch files of others read without running their code."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from model.errors import BadCheckpoint
from model.files import write_atomically

BEGINNINGS = (
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file: run `git lfs pull` where it comes from"),
    (b"<!doctype html", "it is an HTML page, such as a login's or an error's: download the file itself"),
    (b"<html", "it is an HTML page, such as a login's or an error's: download the file itself"),
    (b"<", "it is an HTML or XML page, such as a server's refusal: download the file itself"),
    (b"{", "it is a text file (JSON), such as a server's refusal: download the file itself"),
    (b"\x1f\x8b", "it is packed by gzip: unpack it"),
    (b"\xfd7zXZ", "it is packed by xz: unpack it"),
    (b"7z\xbc\xaf", "it is packed by 7-Zip: unpack it"),
    (b"Rar!", "it is packed by RAR: unpack it"),
    (b"\x89HDF", "it is a file of Keras (HDF5), which no engine here reads"),
)
"""How files begin that come in place of weights, and what to say of them."""

TORCH_ZIP = (b"PK\x03\x04", "it is a zip archive, as PyTorch writes: give it the ending .pth, or unpack it")
LONGEST_BEGINNING = 64
HEADER_START = b'{"'  # of safetensors, after its length

HEADER_LENGTH_BYTES = 8  # little-endian, see https://huggingface.co/docs/safetensors (format)
# What torch's restricted loader raises for files that are not torch's, are cut off, or hold more than tensors.
TORCH_LOAD_ERRORS = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    EOFError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    struct.error,
)


def save(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """Write a safetensors file atomically and return its SHA-256 in hex.

    Tensors may be on any device, strided, or share memory with each other: each is written as a full copy.
    """
    # clone: safetensors refuses tensors that share storage, which tied weights and views do
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = safetensors.torch.save(copies, metadata=dict(metadata))
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def load(path: Path, *, sha256: str | None = None) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors on the CPU, and its metadata.

    Raises BadCheckpoint if the file is missing, cut off, no safetensors file, or has another hash than `sha256`.
    """
    try:
        data = path.read_bytes()
    except OSError as err:
        raise BadCheckpoint(
            f"cannot read weights {path} ({err.strerror}); check the path and its access rights"
        ) from err
    if sha256 is not None and (got := hashlib.sha256(data).hexdigest()) != sha256:
        raise BadCheckpoint(
            f"weights {path} have changed since they were written: wanted SHA-256 {sha256}, got {got}; "
            "restore the file from a backup or use another version"
        )
    try:
        return safetensors.torch.load(data), _metadata(data)
    except (SafetensorError, ValueError, KeyError) as err:
        reason = what_else(data, TORCH_ZIP) or err
        raise BadCheckpoint(
            f"wanted a safetensors file at {path}, got a broken or different one ({reason}); "
            "copy it again, or read a .pth file with load_torch"
        ) from err


def what_else(data: bytes, *more: tuple[bytes, str]) -> str | None:
    """What a file is that came in place of weights, such as the page of a server; None if it may hold some.

    `more`: further beginnings of files, and what to say of them.
    """
    if not data:
        return "it is empty"
    start = data[:LONGEST_BEGINNING].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    found = (told for beginning, told in (*BEGINNINGS, *more) if start.startswith(beginning.lower()))
    return next(found, None)


def _metadata(data: bytes) -> dict[str, str]:
    """The texts stored in a safetensors file's header."""
    end = HEADER_LENGTH_BYTES + int.from_bytes(data[:HEADER_LENGTH_BYTES], "little")
    metadata: dict[str, str] = json.loads(data[HEADER_LENGTH_BYTES:end]).get("__metadata__", {})
    return metadata


def load_torch(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights in a torch file (`.pth`, `.pt`) onto the CPU, without unpickling anything but tensors.

    A training checkpoint that keeps them under "model" (detectron2, torchvision's reference scripts) is unwrapped.
    Raises BadCheckpoint if the file is missing, broken, holds other objects, or is not a mapping of names to tensors.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as err:
        raise BadCheckpoint(
            f"cannot read weights {path} ({err.strerror}); check the path and its access rights"
        ) from err
    except TORCH_LOAD_ERRORS as err:
        reason = what_else(path.read_bytes()) or _unsafe(err, path)
        raise BadCheckpoint(
            f"wanted a torch file with tensors only at {path}, got one that cannot be read safely ({reason}); "
            "download it again, or save its state_dict() and use that"
        ) from err
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not content:
        raise BadCheckpoint(f"wanted a state_dict in {path}, got {type(content).__name__}; save model.state_dict()")
    for name, tensor in content.items():
        if not isinstance(tensor, torch.Tensor):
            raise BadCheckpoint(
                f"wanted tensors only in {path}, got {type(tensor).__name__} under {name!r}; save model.state_dict()"
            )
    return dict(content)


def _unsafe(err: Exception, path: Path) -> str:
    """What torch's restricted loader found, without its advice to load the file unrestricted."""
    with path.open("rb") as stream:
        if stream.read(HEADER_LENGTH_BYTES + len(HEADER_START))[HEADER_LENGTH_BYTES:] == HEADER_START:
            return "it is a safetensors file: give it the ending .safetensors"
    if "TorchScript" in str(err):
        return "it is a TorchScript program"
    if (wanted := re.search(r"GLOBAL ([\w.]+)", str(err))) is not None:
        return f"it asks for {wanted[1]}, as a model does that was saved whole, and may run code"
    return "it is cut off, or no file of PyTorch's"
