import hashlib
import pickle

import pytest
import torch

from model import checkpoints
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


@pytest.mark.parametrize(
    ("content", "message"),
    [([torch.ones(1)], "wanted a state_dict .* got list"), ({}, "got dict"), ({"epoch": 3}, "got int under 'epoch'")],
)
def test_a_torch_file_without_weights_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BadCheckpoint, match=message):
        checkpoints.load_torch(tmp_path / "w.pth")
