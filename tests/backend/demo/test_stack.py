from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from backend.demo.stack import write_shell_settings
from backend.settings import Settings, read_settings


def test_a_shell_that_sources_the_settings_works_on_the_demo(tmp_path: Path) -> None:
    wanted = Settings(data_dir=tmp_path / "a field's data", redis_url="redis://127.0.0.1:7000/0")
    path = write_shell_settings(wanted, tmp_path)
    told = subprocess.run(
        ["sh", "-c", f'. {path}; printf \'%s\\n\' "$DATA_DIR" "$REDIS_URL" "$PATH"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert read_settings({"DATA_DIR": told[0], "REDIS_URL": told[1]}) == wanted
    assert told[2].startswith(f"{Path(sys.executable).parent}:")
    assert path.stat().st_mode & 0o077 == 0
