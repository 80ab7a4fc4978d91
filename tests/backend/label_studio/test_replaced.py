from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from backend.label_studio.replaced import Replacement, replaced_at


@pytest.mark.parametrize(("age_s", "counts"), [(3600, True), (90_000, False), (-3600, False)])
def test_a_date_of_a_server_counts_if_the_other_image_was_there_before_it(age_s: int, counts: bool) -> None:
    """A copied file has its old date, and a clock may be ahead."""
    now = time.time()
    at = replaced_at(formatdate(now - age_s, usegmt=True), now - 86_400)
    assert at == pytest.approx(now - age_s if counts else now, abs=60)


@pytest.mark.parametrize("said", ["", "yesterday", "Mon, 99 Nov 2026 00:00:00 GMT"])
def test_without_a_date_it_was_the_moment_of_noticing(said: str) -> None:
    assert replaced_at(said, 0.0) == pytest.approx(time.time(), abs=60)


def test_what_was_submitted_or_updated_since_shows_the_image_that_is_there() -> None:
    replacement = Replacement("a", 1_767_225_600.0)  # the first of January 2026
    for at in ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00.123456Z", "2026-01-01T01:00:00+01:00"):
        assert replacement.reasons_against({"id": 3, "updated_at": at}) == ()
    (reason,) = replacement.reasons_against({"id": 3, "updated_at": "2025-12-31T23:59:59.999999Z"})
    assert reason == (
        "annotation 3 was made before its image was replaced (by 2026-01-01 00:00 UTC); correct it and press Update, "
        "which Label Studio allows once something was changed: where it fits already, move a point and back"
    )
