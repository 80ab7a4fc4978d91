from __future__ import annotations

import pytest

from backend.errors import BadSetting
from backend.settings import read_settings


def test_the_environment_is_read_and_the_rest_has_defaults(tmp_path) -> None:
    settings = read_settings({"DATA_DIR": str(tmp_path), "PORT": "9191", "ALLOWED_PRIVATE_HOSTS": "minio, nas.local"})
    assert (settings.data_dir, settings.port, settings.host) == (tmp_path, 9191, "127.0.0.1")
    assert settings.allowed_private_hosts == ("minio", "nas.local")
    assert settings.redis_url is None
    assert settings.task_lock_s == 86400, "Label Studio's default"
    assert read_settings({"TASK_LOCK_TTL": "172800"}).task_lock_s == 172800


@pytest.mark.parametrize("value", ["eighty", "0", "-1"])
def test_a_number_that_is_none_is_named(value: str) -> None:
    with pytest.raises(BadSetting, match=f"PORT must be a number above 0, got '{value}'"):
        read_settings({"PORT": value})
