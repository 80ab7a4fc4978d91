from __future__ import annotations

from redis import Redis

from backend.care.cancel import cancel
from backend.project.folder import find_folder
from backend.queue.marks import is_cancelled
from backend.rounds.folder import Round, start_round
from backend.settings import Settings


def begin(settings: Settings, state: str) -> Round:
    begun = start_round(find_folder(settings.data_dir, 3), 0)
    begun.state.state = state
    begun.save()
    return begun


def test_a_round_is_cancelled_while_its_version_is_not_accepted(settings: Settings, redis: Redis) -> None:
    folder = find_folder(settings.data_dir, 3)
    assert cancel(redis, folder) == "no round of project 3 is under way"
    begin(settings, "trained")
    assert cancel(redis, folder) == "round 1 is being cancelled; the next one waits for new annotations"
    assert is_cancelled(redis, folder.uid, 1)


def test_the_way_back_from_an_accepted_version_is_told_as_a_whole_command(settings: Settings, redis: Redis) -> None:
    begun = begin(settings, "pushed")
    folder = find_folder(settings.data_dir, 3)
    assert cancel(redis, folder).endswith("go back with `maskal rollback --project 3`")
    assert not is_cancelled(redis, folder.uid, begun.state.number)
