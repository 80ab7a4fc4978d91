from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import BadSetting
from backend.folders.annotation_store import OneFile
from model.formats.table import FORMATS
from model.records import Record
from tests.backend.outlined_photos import CLASSES
from tests.model.formats.scenes import read


def test_a_journal_cut_off_in_a_line_loses_that_line_only(tmp_path: Path) -> None:
    records = [Record(f"{n}.png", (9, 9), ()) for n in range(3)]
    store = OneFile(FORMATS["coco"], tmp_path, CLASSES, {"conf_thres": 0.5}, overwrite=False)
    for record in records:
        store.add(record)
    (journal,) = tmp_path.iterdir()
    journal.write_text(journal.read_text()[:-9])
    again = OneFile(FORMATS["coco"], tmp_path, CLASSES, {"conf_thres": 0.5}, overwrite=False)
    assert [again.has(record.image) for record in records] == [True, True, False]
    again.add(records[2])
    again.finish([record.image for record in records])
    assert [r.image for r in read("coco", tmp_path)] == ["0.png", "1.png", "2.png"] and not journal.exists()


def test_other_settings_do_not_go_on_with_a_journal(tmp_path: Path) -> None:
    OneFile(FORMATS["coco"], tmp_path, CLASSES, {"conf_thres": 0.5}, overwrite=False)
    with pytest.raises(BadSetting, match="begun with other weights, classes or thresholds"):
        OneFile(FORMATS["coco"], tmp_path, CLASSES, {"conf_thres": 0.6}, overwrite=False)
    OneFile(FORMATS["coco"], tmp_path, CLASSES, {"conf_thres": 0.6}, overwrite=True)


def test_a_damaged_journal_is_told(tmp_path: Path) -> None:
    OneFile(FORMATS["coco"], tmp_path, CLASSES, {}, overwrite=False)
    (journal,) = tmp_path.iterdir()
    journal.write_text(journal.read_text() + "{]\n")
    with pytest.raises(BadSetting, match=r"is damaged .*; start anew with --overwrite"):
        OneFile(FORMATS["coco"], tmp_path, CLASSES, {}, overwrite=False)
