import gzip
import hashlib
import pickle

import pytest
import torch

from model import checkpoints, pickles
from model.errors import BadCheckpoint


def test_tensors_and_metadata_come_back(tmp_path):
    path = tmp_path / "weights.safetensors"
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7), "half": torch.ones(2, dtype=torch.float16)}
    sha256 = checkpoints.save(path, tensors, {"classes": '["a"]'})
    loaded, metadata = checkpoints.load(path, sha256=sha256)
    assert metadata == {"classes": '["a"]'}
    assert loaded.keys() == tensors.keys()
    assert all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_shared_strided_and_trainable_tensors_can_be_saved(tmp_path):
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    tensors = {"a": weight, "tied": weight, "transposed": weight.t(), "view": weight[0]}
    checkpoints.save(tmp_path / "w", tensors, {})
    loaded, metadata = checkpoints.load(tmp_path / "w")
    assert metadata == {}
    assert torch.equal(loaded["tied"], weight) and torch.equal(loaded["transposed"], weight.t())
    assert torch.equal(loaded["view"], torch.tensor([0.0, 1.0, 2.0]))


def test_saving_leaves_one_file(tmp_path):
    for value in (1.0, 2.0):
        checkpoints.save(tmp_path / "w", {"x": torch.tensor(value)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
    assert checkpoints.load(tmp_path / "w")[0]["x"] == 2.0


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadCheckpoint, match=r"cannot read weights .*w \(No such file"):
        checkpoints.load(tmp_path / "w")
    with pytest.raises(BadCheckpoint, match=r"cannot read weights .*w.pth \(No such file"):
        checkpoints.load_torch(tmp_path / "w.pth")


@pytest.mark.parametrize("length", [0, 4, 20, -1])
def test_a_truncated_file_is_refused(tmp_path, length):
    path = tmp_path / "w"
    checkpoints.save(path, {"x": torch.ones(8)}, {"a": "b"})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BadCheckpoint, match="wanted a safetensors file"):
        checkpoints.load(path)


def test_another_format_is_refused(tmp_path):
    torch.save({"x": torch.ones(2)}, tmp_path / "w")
    with pytest.raises(BadCheckpoint, match="load_torch"):
        checkpoints.load(tmp_path / "w")


def test_changed_weights_are_noticed(tmp_path):
    path = tmp_path / "w"
    sha256 = checkpoints.save(path, {"x": torch.ones(8)}, {})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadCheckpoint, match="have changed since they were written"):
        checkpoints.load(path, sha256=sha256)


@pytest.mark.parametrize("content", [{"x": torch.ones(2)}, {"model": {"x": torch.ones(2)}, "iteration": 3}])
def test_a_torch_file_is_unwrapped(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    assert torch.equal(checkpoints.load_torch(tmp_path / "w.pth")["x"], torch.ones(2))


class Trap:
    fired = False

    def __reduce__(self):
        return (_fire, ())


def _fire():
    Trap.fired = True
    return {}


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_code_in_a_torch_file_is_never_run(tmp_path, write):
    write({"model": Trap()}, tmp_path / "w.pth")
    with pytest.raises(BadCheckpoint, match="cannot be read safely"):
        checkpoints.load_torch(tmp_path / "w.pth")
    assert not Trap.fired


@pytest.mark.parametrize("length", [0, 3, 200])
def test_a_truncated_torch_file_is_refused(tmp_path, length):
    path = tmp_path / "w.pth"
    torch.save({"x": torch.ones(500)}, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BadCheckpoint, match="cannot be read safely"):
        checkpoints.load_torch(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "as PyTorch wrote before 1.6"])
def test_a_torch_file_is_refused_wherever_it_is_cut_off(tmp_path, zipped):
    path = tmp_path / "w.pth"
    torch.save({"x": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(BadCheckpoint, match=r"wanted a torch file with tensors only at .*w\.pth"):
            checkpoints.load_torch(path)


def test_a_torch_file_of_before_1_6_with_a_damaged_byte_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"x": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    key = str(pickle.loads(data[data.rindex(b"\x80\x02]") :])[0]).encode()  # of the storage, in the list of them all
    at = data.rindex(key)
    path.write_bytes(data[:at] + b"x" + data[at + 1 :])
    with pytest.raises(BadCheckpoint, match="cut off, or no file of PyTorch's"):
        checkpoints.load_torch(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [([torch.ones(1)], "wanted a state_dict .* got list"), ({}, "got dict"), ({"epoch": 3}, "got int under 'epoch'")],
)
def test_a_torch_file_without_weights_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BadCheckpoint, match=message):
        checkpoints.load_torch(tmp_path / "w.pth")


def whole_model(path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), path)


NO_WEIGHTS = {
    "a page": (lambda path: path.write_text("\n<!DOCTYPE html><html><body>Sign in"), "it is an HTML page"),
    "a refusal": (
        lambda path: path.write_text("<?xml version='1.0'?><Error>AccessDenied"),
        "it is an HTML or XML page",
    ),
    "a pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"),
        "it is a Git LFS pointer, not the file: run `git lfs pull`",
    ),
    "a text": (lambda path: path.write_text('{"error": "not found"}'), "it is a text file"),
    "packed": (lambda path: path.write_bytes(gzip.compress(b"weights")), "it is packed by gzip: unpack it"),
    "nothing": (lambda path: path.write_bytes(b""), "it is empty"),
}
"""What is downloaded and copied in place of weights, and what is said of it."""


@pytest.mark.parametrize("kind", NO_WEIGHTS)
@pytest.mark.parametrize("load", [checkpoints.load, checkpoints.load_torch, pickles.load])
def test_what_came_in_place_of_weights_is_named(tmp_path, kind, load):
    write, told = NO_WEIGHTS[kind]
    write(tmp_path / "w")
    with pytest.raises(BadCheckpoint) as caught:
        load(tmp_path / "w")
    assert told in str(caught.value) and "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (whole_model, "it asks for torch.nn.modules.container.Sequential, as a model does that was saved whole"),
        (lambda path: torch.jit.script(torch.nn.Linear(2, 2)).save(path), "it is a TorchScript program"),
        (lambda path: checkpoints.save(path, {"x": torch.ones(1)}, {}), "give it the ending .safetensors"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(300)), "it is cut off, or no file of PyTorch's"),
        (lambda path: path.write_bytes(bytes(range(128, 256)) * 9), "it is cut off, or no file of PyTorch's"),
    ],
)
def test_a_torch_file_that_cannot_be_read_safely_is_never_to_be_read_otherwise(tmp_path, write, told):
    """PyTorch's own text says how to switch its safety off."""
    write(tmp_path / "w.pth")
    with pytest.raises(BadCheckpoint, match="cannot be read safely") as caught:
        checkpoints.load_torch(tmp_path / "w.pth")
    message = str(caught.value)
    assert told in message and not any(word in message for word in ("weights_only", "two options", "trust", "\n"))


@pytest.mark.parametrize("load", [checkpoints.load, pickles.load])
def test_a_torch_file_with_another_ending_is_named(tmp_path, load):
    torch.save({"x": torch.ones(2)}, tmp_path / "w")
    with pytest.raises(BadCheckpoint, match=r"as PyTorch writes: give it the ending \.pth"):
        load(tmp_path / "w")
