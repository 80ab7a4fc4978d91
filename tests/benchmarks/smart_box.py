"""How long a smart box takes from Label Studio's side, with ResNet-50 and untrained weights.

    python -m tests.benchmarks.smart_box --size 640 --json smart_box.json

Starts the whole system and asks through Label Studio's own route: the first box of all, first boxes on other images,
and further boxes on the same image.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from backend.care.connect import Connection, connect
from backend.demo.stack import Stack, start_stack
from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.rounds.folder import REFUSED, start_round
from backend.settings import read_settings
from backend.system.processes import Processes
from model.engines.loader import build_engine
from model.files import write_json
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.e2e.configs import config
from tests.e2e.waiting import wait_for

LABELS = ("tomato", "plum")
IMAGES, BOXES = 8, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=640, help="longest side of the images in pixels")
    parser.add_argument("--network", default="maskrcnn_resnet50_fpn")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Processes() as processes:
        stack = start_stack(processes, read_settings({**os.environ, "REDIS_URL": ""}), Path(folder))
        report = {"network": options.network, **measure(stack, options.size, options.network), "cores": os.cpu_count()}
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


def measure(stack: Stack, size: int, network: str) -> dict[str, object]:
    """Seconds per box as the browser sees them."""
    client = stack.client()
    xml = config("PolygonLabels shape", "RectangleLabels box smart='true'")
    project = client.create_project("smart boxes", xml)
    rng = np.random.default_rng(0)
    tasks = []
    for index in range(IMAGES):
        picture = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (size, size * 3 // 4))
        content = cv2.imencode(".jpg", picture)[1].tobytes()
        address = client.upload_image(project.id, f"{index}.jpg", content)
        tasks += client.import_tasks(project.id, [{"data": {"image": address}}])
    serve_untrained(stack, project.uid, network, xml)
    connect(stack.settings, Connection(project.id, stack.label_studio_url, stack.login.token))
    (row,) = client.backends(project.id)

    def ask(task: int, x: float) -> float:
        value = {"x": x, "y": 20, "width": 40, "height": 50, "rotation": 0, "rectanglelabels": ["tomato"]}
        region = {"id": "b", "type": "rectanglelabels", "from_name": "box", "to_name": "image", "value": value}
        body = {"task": task, "context": {"result": [region]}}
        started = time.monotonic()
        answer = client.request("POST", f"/api/ml/{row['id']}/interactive-annotating", json=body)
        assert "result" in answer["data"], answer
        return time.monotonic() - started

    wait_for(lambda: client.count_open(project.id, "maskal-r1") == IMAGES, "the worker to have scored the tasks", 300)
    client.update_project(project.id, description="an event, by which the backend reads the network ahead")
    time.sleep(5)
    cold = ask(tasks[0], 10)
    first = [ask(task, 10) for task in tasks[1:]]
    further = [ask(tasks[-1], 5 + 4 * index) for index in range(BOXES)]
    return {
        "size": size,
        "seconds": {
            "first_of_all": round(cold, 3),
            "first_on_an_image": {"median": round(statistics.median(first), 3), "max": round(max(first), 3)},
            "further": {"median": round(statistics.median(further), 3), "max": round(max(further), 3)},
        },
    }


def serve_untrained(stack: Stack, uid: str, network: str, xml: str) -> None:
    """Make a version with random weights the served one."""
    home = connect_folder(stack.settings.data_dir, uid)
    chosen = ProjectConfig(network_config=network, initial_datasize=1000, mcd_iterations=1)
    home.store_config(chosen)
    settings = chosen.engine_config("cpu")
    engine = build_engine("torchvision", LABELS, settings)
    fields = VersionFields(1, LABELS, "torchvision", asdict(settings), {}, None, "", True, "untrained")
    add_version(home.registry, fields, engine.tensors())
    home.registry.write_ranking("maskal-r1", [])
    begun = start_round(home, 0)
    begun.write_annotated([], xml)
    begun.state.state = REFUSED  # nothing for the worker to go on with
    begun.save()
    home.registry.set_current("maskal-r1")


if __name__ == "__main__":
    main()
