from __future__ import annotations

from pathlib import Path

import pytest

from backend.demo.run import held
from backend.errors import ProcessFailed


def test_a_folder_is_kept_to_one_demo(tmp_path: Path) -> None:
    with (
        held(tmp_path),
        pytest.raises(ProcessFailed, match=f"another demo runs in {tmp_path}; .* --folder"),
        held(tmp_path),
    ):
        pass
    with held(tmp_path):  # the first one has ended
        pass
