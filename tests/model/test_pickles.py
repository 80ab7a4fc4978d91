from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from model import pickles
from model.errors import BadCheckpoint


def write(folder: Path, data: bytes) -> Path:
    path = folder / "weights.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_in_plain_containers_come_back(tmp_path: Path, protocol: int) -> None:
    strided = np.arange(12, dtype=np.int64).reshape(3, 4).T
    content = {
        "model": OrderedDict(a=np.arange(6, dtype=np.float32).reshape(2, 3), b=strided),
        "__author__": "Caffe2",
        "number": np.float64(2.5),
        "list": [1, (2.0, None, True)],
    }
    read = pickles.load(write(tmp_path, pickle.dumps(content, protocol)))
    assert np.array_equal(read["model"]["a"], content["model"]["a"])
    assert np.array_equal(read["model"]["b"], strided)
    assert (read["__author__"], read["number"], read["list"]) == ("Caffe2", 2.5, [1, (2.0, None, True)])


@pytest.mark.parametrize(("theirs", "ours"), [(b"numpy.core.", b"numpy._core."), (b"numpy._core.", b"numpy.core.")])
def test_numpy_1_and_2_are_both_read(tmp_path: Path, theirs: bytes, ours: bytes) -> None:
    data = pickle.dumps({"a": np.arange(3)}, 0).replace(theirs, ours)
    assert pickles.load(write(tmp_path, data))["a"].tolist() == [0, 1, 2]


def test_python_2_wrote_bytes_as_texts(tmp_path: Path) -> None:
    data = b"\x80\x02}q\x00U\x06conv1wU\x02\xe9!s."  # {"conv1w": "\xe9!"} by protocol 2 of Python 2
    assert pickles.load(write(tmp_path, data)) == {"conv1w": "\xe9!"}


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_in_it_is_executed(tmp_path: Path, protocol: int) -> None:
    harmed = tmp_path / "harmed"
    path = write(tmp_path, pickle.dumps({"model": {"a": np.zeros(2), "b": Malicious(harmed)}}, protocol))
    with pytest.raises(BadCheckpoint, match=r"cannot be read safely \(it asks for (posix|nt)\.system\)"):
        pickles.load(path)
    assert not harmed.exists()


@pytest.mark.parametrize("name", [b"cbuiltins\neval\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cnumpy\nsave\n"])
def test_other_names_are_refused(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(BadCheckpoint, match="it asks for"):
        pickles.load(write(tmp_path, name + b"(S'1'\ntR."))


class Called:
    """Has a pickle call something of numpy's, and maybe set its state."""

    def __init__(self, *calls: object) -> None:
        self.calls = calls

    def __reduce__(self) -> tuple:
        return self.calls


RECONSTRUCT = np.zeros(0).__reduce__()[0]
OBJECTS = Called(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))
OUTSIDE = Called(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("f4"), 10**6)}, 8, 1, 0))
REPEATED = Called(np.dtype, ("f4", False, True), (3, "<", (np.dtype("f4"), (1000,)), None, None, -1, -1, 0))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "array",
    [
        Called(np.ndarray, ((1,), "O", b"A" * 8)),
        Called(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (1,), OBJECTS, False, b"A" * 8)),
        Called(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (1,), OUTSIDE, False, b"A" * 8)),
        Called(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (1,), REPEATED, False, b"A" * 8)),
        Called(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (2,), np.dtype("f8"), False, b"A" * 8)),
    ],
    ids=["called", "objects", "outside", "repeated", "too short"],
)
def test_no_bytes_of_a_file_become_addresses_in_the_memory(tmp_path: Path, array: Called, protocol: int) -> None:
    with pytest.raises(BadCheckpoint, match="cannot be read safely"):
        pickles.load(write(tmp_path, pickle.dumps({"model": {"a": array}}, protocol)))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numbers_of_either_order_of_bytes_are_read(tmp_path: Path, protocol: int) -> None:
    content = {"a": np.array([[1.5, 2.0]], ">f4"), "b": np.array(3, "<i8")}
    read = pickles.load(write(tmp_path, pickle.dumps(content, protocol)))
    assert all(np.array_equal(read[name], value) and read[name].shape == value.shape for name, value in content.items())


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps({"a": np.zeros(100)})[:60]])
def test_a_broken_file_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadCheckpoint, match=r"weights\.pkl, got one that cannot be read safely"):
        pickles.load(write(tmp_path, data))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="cannot read weights"):
        pickles.load(tmp_path / "weights.pkl")
