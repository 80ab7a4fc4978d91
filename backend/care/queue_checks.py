"""What the doctor checks of the queue that annotators get."""

from __future__ import annotations

from backend.care.case import Case, Doubt, Fault
from backend.label_studio.tabs import NEXT, is_queue, tabs

ENOUGH_SCORED = 0.99


def version(case: Case) -> str:
    """Whether the queue follows the served version."""
    served, shown = case.folder.registry.current(), case.project.model_version
    if served is None:
        raise Doubt("no version yet; the first round starts by itself, `maskal status` tells what is missing")
    if shown != served:
        raise Fault(f"the project follows {shown!r}, served is {served}: its queue is random; {case.mend}")
    return f"the queue follows {served}"


def sampling(case: Case) -> str:
    """Whether the queue is sorted by the scores."""
    sampling = case.project.options["sampling"]
    if sampling != "Uncertainty sampling":
        raise Fault(f"the project's sampling is {sampling!r}, so the queue ignores the scores; {case.mend}")
    return sampling


def overlap(case: Case) -> str:
    """Whether each task is served once."""
    options = case.project.options
    if options["maximum_annotations"] > 1:
        raise Doubt(
            f"each task wants {options['maximum_annotations']} annotations, and Label Studio serves those in progress "
            "at random first; set maximum_annotations to 1 in the project's settings"
        )
    if options["show_overlap_first"]:
        raise Doubt("tasks with overlap are shown first, before the scores count; switch show_overlap_first off")
    return "one annotation a task"


def pre_labels(case: Case) -> str:
    """Whether annotators see them."""
    options = case.project.options
    if not options["show_collab_predictions"]:
        raise Doubt("annotators do not see the pre-labels (show_collab_predictions is off); " + case.mend)
    if options["reveal_preannotations_interactively"]:
        raise Doubt("pre-labels show only where the annotator drags a box; switch 'reveal pre-annotations' off")
    return "shown to annotators"


def tab(case: Case) -> str:
    """Whether the Data Manager shows the queue."""
    tab = tabs(case.client, case.project_id).get(case.folder.tab() or 0)
    if tab is None:
        raise Doubt(f"the Data Manager has no tab that shows the queue; {case.mend}")
    title = str(tab.get("title"))
    if not is_queue(tab):
        raise Doubt(
            f"the tab {title!r} has another order or filter than the queue, and who labels from it gets that; "
            f"{case.mend}"
        )
    return title if title == NEXT else f"{title!r}, made as {NEXT!r}"


def scores(case: Case) -> str:
    """Whether the open tasks have them."""
    served = case.folder.registry.current()
    if served is None:
        raise Doubt("no version has scored yet")
    open_tasks, scored = case.client.count_open(case.project_id), case.client.count_open(case.project_id, served)
    told = f"{scored} of {open_tasks} open tasks hold a score of {served}"
    if scored < ENOUGH_SCORED * open_tasks:
        raise Doubt(f"{told}; the worker scores the rest, `maskal status` lists images that cannot be read")
    return told
