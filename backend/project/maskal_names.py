"""MaskAL's settings that have another place here, by the names that they have in its YAML files."""

from __future__ import annotations

from collections.abc import Iterable

FOLDERS = "images and results lie in Label Studio and DATA_DIR"
PARTS = "the parts are chosen by hash, or by `split` in a task's data"
IMPORT = "maskal import"
SIMULATE = "maskal simulate"
NOWHERE = "nothing here needs it"

MOVED = {
    **dict.fromkeys(("weightsroot", "resultsroot", "dataroot", "experiment_name"), FOLDERS),
    **dict.fromkeys(("traindir", "valdir", "testdir", "train_complete_trainset"), PARTS),
    **dict.fromkeys(("use_initial_train_dir", "initial_train_dir"), IMPORT),
    **dict.fromkeys(("duplicate_initial_model", "duplicate_initial_model_and_data", "initial_train_file"), SIMULATE),
    "no_experiments": SIMULATE,
    "cuda_visible_devices": "device",
    "classes": "the labelling config",
    "transfer_learning_on_previous_models": "warm_start",
    "strategies": "strategy",
    "iterations": "mcd_iterations",
    "batch_size": "train_batch_size",
    "equal_pool_size": "pool_size, one number or a list",
    **dict.fromkeys(("dropout_method", "al_batch_size", "resume"), NOWHERE),
    **dict.fromkeys(("auto_annotate", "export_format", "supervisely_meta_json"), "maskal auto-annotate"),
}
"""Where each of them went, also those of its older files."""

ITS_DEFAULT = -1
"""What MaskAL's files say for `checkpoint_period` where they leave it to the program."""

PERIODS = ("checkpoint_period", "eval_period")


def moved(names: Iterable[str]) -> str | None:
    """Where those of some names went that are MaskAL's, each place once; None if none is."""
    places: dict[str, list[str]] = {}
    for name in names:
        if name in MOVED:
            places.setdefault(MOVED[name], []).append(name)
    if not places:
        return None
    told = "; ".join(f"{', '.join(some)}: {place}" for place, some in places.items())
    return f"MaskAL's settings that have another place here are to be taken out ({told})"
