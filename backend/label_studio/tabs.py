"""Tabs of Label Studio's Data Manager, which all members of a project share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from backend.errors import NotFound
from backend.label_studio.client import LabelStudio
from backend.label_studio.task_lists import IS_OPEN, is_task

NEXT = "Next (MaskAL)"
"""Title of our tab when it is made; people may give it another."""

LIKE = "Like {} (MaskAL)"
"""Title of the one tab of tasks that look alike."""

QUEUE: dict[str, Any] = {
    "filters": {"conjunction": "and", "items": [IS_OPEN]},
    "ordering": ["tasks:predictions_score"],
}
"""What makes a tab ours: the open tasks, the least certain first."""

SHOWN = {
    "explore": ("tasks:id", "tasks:predictions_score", "tasks:predictions_model_versions"),
    "labeling": ("tasks:predictions_score",),
}
"""Columns that it shows beside the data of the labelling config: as a table, and beside the label stream."""

ALWAYS_THERE = {"title": "Default", "type": "list", "target": "tasks", "columnsWidth": {}, "columnsDisplayType": {}}
"""The tab that Label Studio makes itself, but only in a project that has none."""


def tabs(client: LabelStudio, project_id: int) -> dict[int, dict[str, Any]]:
    """What each tab of a project shows, by the tab's id."""
    rows = client.request("GET", "/api/dm/views/", params={"project": project_id})
    return {int(row["id"]): row["data"] for row in rows}


def is_queue(tab: Mapping[str, Any]) -> bool:
    """Whether a tab shows the open tasks in the order of the queue."""
    filters = tab.get("filters") or {}
    wanted = QUEUE["filters"]["items"]
    items = [{name: item.get(name) for name in wanted[0]} for item in filters.get("items", [])]
    return items == wanted and tab.get("ordering") == QUEUE["ordering"]


def provide_next(client: LabelStudio, project_id: int, known: int | None, noise: Collection[str] = ()) -> int:
    """Make our tab, or mend the order and filter of the one that is `known` (or has its title); returns its id.

    `noise` are keys of the tasks' data that it hides even if no task has them yet. Label Studio's own tab is made first
    where there is none, as it would not be made beside ours.
    """
    there = tabs(client, project_id)
    ours = known if known in there else next((i for i, tab in there.items() if tab.get("title") == NEXT), None)
    if ours is not None:
        if not is_queue(there[ours]):
            client.request("PATCH", f"/api/dm/views/{ours}/", json={"data": {**there[ours], **QUEUE}})
        return ours
    columns = _columns(client, project_id)
    if not there:
        nothing = {"filters": {"conjunction": "and", "items": []}}
        _add(client, project_id, {**ALWAYS_THERE, **nothing, "hiddenColumns": _usually_hidden(columns)})
    hidden = {place: _all_but(columns, place, noise) for place in SHOWN}
    return _add(client, project_id, {**ALWAYS_THERE, **QUEUE, "title": NEXT, "hiddenColumns": hidden})


def provide_like(client: LabelStudio, project_id: int, title: str, alike: Sequence[int]) -> int:
    """Let our one tab of this kind show tasks that look alike, named for what they are like; returns its id.

    It cannot keep their order.
    """
    wanted = {
        "title": LIKE.format(title),
        "filters": {"conjunction": "or", "items": [is_task(other) for other in alike]},
        "ordering": [],
    }
    there = find_like(client, project_id)
    if there is None:
        hidden = {place: _all_but(_columns(client, project_id), place, ()) for place in SHOWN}
        return _add(client, project_id, {**ALWAYS_THERE, **wanted, "hiddenColumns": hidden})
    tab, shown = there
    client.request("PATCH", f"/api/dm/views/{tab}/", json={"data": {**shown, **wanted}})
    return tab


def find_like(client: LabelStudio, project_id: int) -> tuple[int, dict[str, Any]] | None:
    """Our tab of tasks that look alike, its id and what it shows; None if there is none."""
    first, last = LIKE.split("{}")
    for tab, shown in tabs(client, project_id).items():
        title = str(shown.get("title"))
        if title.startswith(first) and title.endswith(last):
            return tab, shown
    return None


def remove_tab(client: LabelStudio, tab_id: int) -> bool:
    """Take a tab away; whether it was still there."""
    try:
        client.request("DELETE", f"/api/dm/views/{tab_id}/")
    except NotFound:
        return False
    return True


def _columns(client: LabelStudio, project_id: int) -> list[dict[str, Any]]:
    columns: list[dict[str, Any]] = client.request("GET", "/api/dm/columns", params={"project": project_id})["columns"]
    return columns


def _add(client: LabelStudio, project_id: int, tab: Mapping[str, Any]) -> int:
    row = client.request("POST", "/api/dm/views/", json={"project": project_id, "data": tab}, retry=False)
    return int(row["id"])


def _usually_hidden(columns: Collection[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What Label Studio hides in a tab of its own."""
    return {
        place: [_key(c) for c in columns if not c.get("visibility_defaults", {}).get(place, True)] for place in SHOWN
    }


def _all_but(columns: Collection[Mapping[str, Any]], place: str, noise: Collection[str]) -> list[str]:
    """All columns but those that our tab shows there and the data that the labelling config names."""
    is_data = {_key(c): c.get("parent") == "data" for c in columns}
    named = {_key(c) for c in columns if is_data[_key(c)] and c["visibility_defaults"]["labeling"]}
    keys = [*is_data, *(f"tasks:data.{key}" for key in noise)]
    return [key for key in dict.fromkeys(keys) if key not in SHOWN[place] and key not in named and key != "tasks:data"]


def _key(column: Mapping[str, Any]) -> str:
    """A column as a tab names it."""
    parent = f"{column['parent']}." if column.get("parent") else ""
    return f"{column['target']}:{parent}{column['id']}"
