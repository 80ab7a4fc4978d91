import json
import stat
import threading
import tracemalloc

import pytest

from model.files import append_lines, read_json, replacing, write_atomically, write_json


def test_bytes_and_text_come_back(tmp_path):
    write_atomically(tmp_path / "a", b"\x00\xff")
    write_atomically(tmp_path / "b", "Blätter")
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_text(encoding="utf-8") == "Blätter"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "current"
    write_atomically(path, "old")
    with pytest.raises(OSError, match="disk full"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]
    assert path.read_text() == "old"


def test_a_secret_is_readable_by_its_owner_only(tmp_path):
    path = tmp_path / "secrets.json"
    path.write_text("{}")
    path.chmod(0o644)
    write_json(path, {"key": "x"}, mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_secret_is_closed_to_others_while_it_is_written(tmp_path):
    with replacing(tmp_path / "secrets.json", mode=0o640) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o640


def test_a_reader_sees_the_old_or_the_new_file_never_a_part(tmp_path):
    path = tmp_path / "state.json"
    values = [["a"] * 500, ["b"] * 500]
    write_json(path, values[0])
    writer = threading.Thread(target=lambda: [write_json(path, values[turn % 2]) for turn in range(12)])
    writer.start()
    while writer.is_alive():
        assert read_json(path) in values
    writer.join()


@pytest.mark.parametrize("end", ["", '{"torn": "' + 300_000 * "x"])
def test_lines_are_added_to_a_large_file_without_reading_it_into_memory(tmp_path, end):
    path = tmp_path / "rows.jsonl"
    line = 1000 * "x" + "\n"
    path.write_text(20_000 * line + end)
    tracemalloc.start()
    append_lines(path, "last\n")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6 and path.stat().st_size == 20_000 * len(line) + 5
    assert path.read_text().endswith(f"{line}last\n")


def test_of_a_file_that_holds_nothing_whole_nothing_stays(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(200_000 * "x")
    append_lines(path, "")
    assert path.read_text() == ""
    append_lines(path, "first\n")
    assert path.read_text() == "first\n"


def test_json_comes_back_and_nan_is_refused(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"name": "Brokkoli grün", "ap": None})
    assert read_json(path) == {"name": "Brokkoli grün", "ap": None}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"ap": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["ap"] is None


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"wanted JSON in .*x\.json"):
        read_json(path)


def test_json_of_another_encoding_says_to_save_it_as_utf_8(tmp_path):
    path = tmp_path / "a.json"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes('{"label": "Läsion"}'.encode(encoding))
        assert read_json(path) == {"label": "Läsion"}
    path.write_bytes('{"label": "Läsion"}'.encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"wanted JSON in .*a\.json as UTF-8, got another encoding \(byte 0xe4 at 12\); save it as"
    ):
        read_json(path)
    path.write_bytes(b'{"label": ')
    with pytest.raises(ValueError, match="restore the file or delete it"):
        read_json(path)
