from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient
from redis import Redis
from rq import Queue

from backend.project.config import ProjectConfig
from backend.project.credentials import SECRET_HEADER, load_credentials, store_label_studio
from backend.project.folder import connect_folder
from backend.queue.jobs import ROUNDS, RUN_ROUND
from backend.rounds.effort import Effort
from backend.rounds.first_queue import FirstTask, note_obstacle, write_first_queue
from backend.rounds.folder import Round
from backend.rounds.history import note_rollback, note_version
from backend.rounds.trial import note_obstacle as note_obstacle_of_choosing
from backend.settings import Settings
from backend.web.access import make_token
from backend.web.app import create_app
from backend.web.report import write_report
from model.files import write_json
from tests.backend.shown_project import APS, UID, ShownProject

NASTY = "<script>alert(1)</script>"
VIEWER = ("viewer", "look")


PAGES = ("/", "/p/3/", "/p/3/now", "/static/page.css", "/static/page.js")


def test_pages_open_to_both_passwords_and_to_nobody_else(client: FlaskClient, shown, main, settings: Settings) -> None:
    secret = {SECRET_HEADER: load_credentials(settings).webhook_secret}
    for path in PAGES:
        assert client.get(path, auth=main).status_code == client.get(path, auth=VIEWER).status_code == 200
        for auth in (None, ("viewer", "wrong"), ("maskal", "look"), ("viewer", main[1]), ("", "")):
            answer = client.get(path, auth=auth)
            assert answer.status_code == 401 and "Broccoli" not in answer.text
        assert client.get(path, headers=secret).status_code == 401


def test_an_address_without_its_last_slash_leads_to_the_page(client: FlaskClient, shown) -> None:
    answer = client.get("/p/3", auth=VIEWER)
    behind_a_proxy = "https://host/maskal/p/3"  # which calls the backend http://127.0.0.1:9090/p/3
    assert answer.status_code == 308 and urljoin(behind_a_proxy, answer.headers["Location"]) == f"{behind_a_proxy}/"
    assert client.get("/p/3").status_code == 401


def test_without_a_viewers_password_there_is_no_viewer(tmp_path: Path) -> None:
    client = create_app(Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:9/0")).test_client()
    for password in ("", "None", "look"):
        assert client.get("/", auth=("viewer", password)).status_code == 401


def test_the_viewers_password_opens_nothing_of_label_studios_and_no_button(
    client: FlaskClient, shown, settings: Settings
) -> None:
    for path in ("/p/3/setup", "/p/3/predict", "/p/3/webhook", "/p/3/job_status"):
        assert client.post(path, json={"project": UID}, auth=VIEWER).status_code == 401
    assert client.get("/p/3/versions", auth=VIEWER).status_code == 401
    token = {"token": make_token(load_credentials(settings), UID)}
    for action in ("round", "cancel", "rollback"):
        assert client.post(f"/p/3/{action}", data=token, auth=VIEWER).status_code == 403
    page = client.get("/p/3/", auth=VIEWER).text
    assert "<form" not in page and 'name="token"' not in page


@pytest.mark.parametrize("path", ["/", "/p/3/", "/p/3/now", "/p/9/", "/p/3/thumbnails/x.jpg"])
def test_every_page_has_its_guards(client: FlaskClient, shown, main, path: str) -> None:
    headers = client.get(path, auth=main).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


def test_names_of_classes_tasks_and_projects_are_text_and_never_markup(settings: Settings, redis, main) -> None:
    project = ShownProject(settings.data_dir, classes=(NASTY, "'\"><img src=x onerror=alert(1)>"), title=NASTY)
    project.make_versions()
    project.look(**{**project.trouble(), "unreadable": [{"task": 1, "reason": f"`{NASTY}`"}]})
    client = create_app(settings).test_client()
    for path in ("/", "/p/3/", "/p/3/now"):
        page = client.get(path, auth=main).text
        assert "<script>alert" not in page and "<img src=x" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    out = settings.data_dir / "report.html"
    write_report(settings, None, project.folder, out)
    assert "<script" not in out.read_text() and "&lt;script&gt;" in out.read_text()


def test_no_page_shows_a_secret_a_path_or_what_an_address_carries(settings: Settings, redis, main) -> None:
    known = store_label_studio(settings, "http://127.0.0.1:9", "topsecretkey")
    secrets = ("topsecretkey", known.basic_password, known.webhook_secret, "hunter2", "X-Amz-Signature")
    leaky = f"{' '.join(secrets[:3])} at http://me:and@hunter2@host/a.png?X-Amz-Signature=abc in {settings.data_dir}/x"
    project = ShownProject(settings.data_dir)
    project.make_versions()
    project.look(unreadable=[{"task": 1, "reason": leaky}], unreadable_count=1, reason=leaky)
    begun = project.begin_round()
    begun.state.error = leaky
    begun.save()
    out = settings.data_dir / "report.html"
    write_report(settings, None, project.folder, out)
    client = create_app(settings).test_client()
    for text in (out.read_text(), *(client.get(path, auth=main).text for path in ("/", "/p/3/", "/p/3/now"))):
        assert not [secret for secret in (*secrets, str(settings.data_dir)) if secret in text]
    assert "http://host/a.png" in out.read_text()


def test_a_page_tells_what_became_of_each_version(client: FlaskClient, shown, main) -> None:
    page = client.get("/p/3/", auth=main).text
    states = re.findall(r'class="version">(maskal-r\d)</th><td><span class="state [\w-]+">([\w ]+)<', page)
    assert states == [
        ("maskal-r6", "served"),
        ("maskal-r5", "rolled back"),
        ("maskal-r4", "accepted"),
        ("maskal-r3", "refused"),
        ("maskal-r2", "accepted"),
        ("maskal-r1", "accepted"),
    ]
    assert "maskal-r4, before" in page, "the version before the served one, not the one that was rolled back"
    assert "maskal-r6 was accepted: not significantly worse on 18 validation images" in page


def test_one_validation_image_is_told_as_one(
    client: FlaskClient, settings: Settings, main, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = ShownProject(settings.data_dir)
    found = replace(project.findings(), images=1, counts={"right": 1, "confused": 0, "missed": 0, "invented": 0})
    monkeypatch.setattr(project, "findings", lambda: found)
    project.make_versions()
    project.look()
    assert "On 1 validation image: 1 object right, 0 found" in client.get("/p/3/", auth=main).text


def test_page_and_report_tell_what_was_measured_on_test_images(
    client: FlaskClient, shown, main, settings: Settings, tmp_path: Path
) -> None:
    assert "test image" not in client.get("/p/3/", auth=main).text
    version = shown.folder.registry.get("maskal-r6")
    test = {"images": 40, "mask_ap": 0.514, "interval": {"mask_ap": [0.46, 0.57]}}
    note_version(shown.folder, replace(version, metrics={**version.metrics, "test": test}))
    write_report(settings, None, shown.folder, tmp_path / "report.html")
    for page in (client.get("/p/3/", auth=main).text, (tmp_path / "report.html").read_text()):
        assert "On 40 test images, which have no say in anything, maskal-r6 has a mask AP of" in page
        assert re.search(r"<strong>0\.51</strong> \(95 % interval 0\.46.0\.57\)\.", page)
        rows = re.findall(
            r'class="version">(maskal-r\d).*?(<td class="num">[^/]*(?:</span>)?</td>)<td class="why">', page
        )
        assert rows[0] == ("maskal-r6", '<td class="num">0.51 <span class="quiet">(40)</span></td>')
        assert rows[1] == ("maskal-r5", '<td class="num">not measured</td>')


def test_page_and_report_tell_what_hardly_pays_any_more(
    client: FlaskClient, shown, main, settings: Settings, tmp_path: Path
) -> None:
    told = "More images hardly help any more: 160 more, half as many again, are expected to bring +0.001 mask AP"
    assert told not in client.get("/p/3/", auth=main).text
    outlook = {"measurements": 8, "ahead": 160, "gain": 0.001, "low": -0.01, "high": 0.012}
    stored = {"format": 1, "outlook": outlook, "choice": None, "queues": {}}
    write_json(shown.folder.path / "payoff.json", stored)
    write_report(settings, None, shown.folder, tmp_path / "report.html")
    for page in (client.get("/p/3/now", auth=main).text, (tmp_path / "report.html").read_text()):
        assert told in page


def test_a_page_needs_nothing_that_grows_with_the_tasks(client: FlaskClient, shown, main) -> None:
    before = client.get("/", auth=main).text
    for path in shown.folder.path.rglob("ranking.jsonl"):
        path.unlink()
    (shown.folder.path / "receipt.jsonl").mkdir()
    assert client.get("/", auth=main).text == before and "0.55" in before
    assert "data?task=101" in client.get("/p/3/", auth=main).text


def test_annotated_tasks_leave_the_front(client: FlaskClient, shown, main) -> None:
    page = client.get("/p/3/", auth=main).text
    assert "data?task=100" not in page and page.count("data?task=1") == 12


def test_commands_that_find_more_are_there_to_copy_and_in_no_report(
    client: FlaskClient, settings: Settings, redis, main
) -> None:
    project = ShownProject(settings.data_dir, classes=("healthy", "cat's eye"))
    fields = project.add_version(1, 0.3, promoted=True)
    training = {"training": {"objects": {"healthy": 200, "cat's eye": 3}}}
    write_json(
        project.folder.path / "versions" / fields.name / "version.json",
        {"format": 1, "name": fields.name, **asdict(replace(fields, metrics=training))},
    )
    project.rank(fields.name, max(APS), 20)
    project.folder.registry.set_current(fields.name)
    page = unescape(client.get("/p/3/", auth=main).text)
    assert "<code>maskal like --project 3 --task 100</code>" in page
    assert "<code>maskal like --project 3 --label 'cat'\"'\"'s eye'</code>" in page
    assert "cat's eye is rare: 3 objects are annotated, 200 of healthy" in page
    out = settings.data_dir / "report.html"
    write_report(settings, None, project.folder, out)
    assert "maskal like" not in out.read_text()


def test_what_is_wrong_is_told_with_the_mend(client: FlaskClient, shown, main) -> None:
    assert "task 17 is gone" not in client.get("/p/3/now", auth=main).text
    shown.look(**shown.trouble())
    page = client.get("/p/3/now", auth=main).text
    assert "the image of task 17 is gone (404); upload it again" in page and "did not count in the last round" in page


def test_without_redis_a_page_says_so_and_shows_the_rest(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:9/0", viewer_password="look")
    project = ShownProject(tmp_path)
    project.make_versions()
    project.begin_round()
    page = create_app(settings).test_client().get("/p/3/", auth=VIEWER).text
    assert "<strong>Redis</strong> does not answer" in page and "Round 7 is under way" in page and "0.55" in page


def test_the_page_says_where_no_further_round_begins_by_itself(client: FlaskClient, shown: ShownProject, main) -> None:
    reason = "`loops: 1` of the settings are done; Start Training begins one more round"
    shown.look(changed=0, missing=None, reason=reason)
    page = client.get("/p/3/now", auth=main).text
    assert "No further round begins by itself" in page and "<code>loops: 1</code> of the settings are done" in page


def test_a_project_without_versions_says_what_will_come(client: FlaskClient, settings: Settings, main) -> None:
    connect_folder(settings.data_dir, UID)
    page = client.get("/p/3/", auth=main).text
    assert "No version yet" in page and "Not measured yet" in page and "Roll back" not in page
    ShownProject(settings.data_dir).look(front=[], changed=4, missing=26, reason="4 annotations of 30")
    page = client.get("/p/3/", auth=main).text
    assert "26 more annotations until the next round" in page and "Not measured yet: there is no version." in page
    assert "trained by itself once enough images are annotated" in page
    ShownProject(settings.data_dir).begin_round(1)
    assert "The first version is being made." in client.get("/p/3/", auth=main).text


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("coverage", "The first images are being chosen; until then they come in random order."),
        ("random", "The first images come in random order."),
    ],
)
def test_a_project_without_versions_says_how_the_first_images_come(
    client: FlaskClient, settings: Settings, main, choice: str, told: str
) -> None:
    project = ShownProject(settings.data_dir)
    project.folder.store_config(ProjectConfig.model_validate({"first_images": choice}))
    project.look(front=[])
    page = client.get("/p/3/", auth=main).text
    assert page.count(told) == 2 and "stand for the most others" not in page
    note_obstacle(project.folder, f"the file in {settings.data_dir.parent} is not known")
    page = client.get("/p/3/", auth=main).text
    assert ("cannot be looked at; <code>maskal status</code> says why" in page) == (choice == "coverage")
    assert str(settings.data_dir.parent) not in page
    write_first_queue(project.folder, [FirstTask(1, 0.5, "train", "")])
    assert ("stand for the most others" in client.get("/p/3/now", auth=main).text) == (choice == "coverage")


def test_a_queue_that_is_not_what_the_settings_say_is_told(
    client: FlaskClient, shown, main, settings: Settings
) -> None:
    told = "Strategy coverage needs a network that has seen images before"
    assert told not in client.get("/p/3/", auth=main).text
    choice = {"strategy": "coverage", "pretrained_weights": "none"}
    shown.folder.store_config(ProjectConfig.model_validate(choice))
    assert f"{told}; with pretrained_weights: none it is uncertainty." in client.get("/p/3/", auth=main).text
    shown.folder.store_config(ProjectConfig.model_validate({"strategy": "coverage"}))
    assert told not in client.get("/p/3/", auth=main).text
    note_obstacle_of_choosing(Round(shown.folder.rounds / "6"), f"{settings.data_dir}/weights is missing")
    page = unescape(client.get("/p/3/", auth=main).text)
    assert f"{told}; it is uncertainty until the next version, as that one cannot be had: DATA_DIR/weights" in page


def test_settings_that_cannot_be_read_hide_no_page(client: FlaskClient, settings: Settings, main) -> None:
    project = ShownProject(settings.data_dir)
    project.look(front=[])
    (project.folder.path / "config.yaml").write_text("first_images: never")
    page = client.get("/p/3/", auth=main)
    assert page.status_code == 200 and "No version yet" in page.text and "random order" not in page.text


@pytest.mark.parametrize(("content", "told"), [('{"format": 99}', "upgrade"), ("", "wanted JSON in DATA_DIR")])
def test_a_project_that_cannot_be_read_is_told_and_hides_no_other(
    client: FlaskClient, shown, main, settings: Settings, content: str, told: str
) -> None:
    broken = connect_folder(settings.data_dir, "4.1700000000")
    (broken.rounds / "1").mkdir()
    (broken.rounds / "1" / "state.json").write_text(content)
    page, all_of_them = client.get("/p/4/", auth=main), client.get("/", auth=main)
    assert page.status_code == 500 and "<h1>" in page.text and told in page.text
    assert all_of_them.status_code == 200 and "Broccoli, field 7" in all_of_them.text
    assert "Project 4" in all_of_them.text and told in all_of_them.text
    assert str(settings.data_dir) not in page.text + all_of_them.text


def test_just_after_a_round_the_page_does_not_say_that_nobody_looked(client: FlaskClient, shown, main) -> None:
    shown.look(missing=None, reason="")
    page = client.get("/p/3/now", auth=main).text
    assert "A round has just ended" in page and "No worker has looked" not in page


def test_an_unknown_project_is_told_as_a_page(client: FlaskClient, main) -> None:
    answer = client.get("/p/9/", auth=main)
    assert answer.status_code == 404 and "<h1>" in answer.text and "maskal connect --project 9" in answer.text


def test_a_running_round_shows_its_step_and_progress(client: FlaskClient, shown, main, redis: Redis) -> None:
    shown.begin_round()
    queue = Queue(ROUNDS, connection=redis)
    job = queue.enqueue_call("backend.workers.jobs.run_round", args=(UID,), job_id=RUN_ROUND.id_for(UID))
    assert "It waits for a worker" in client.get("/p/3/now", auth=main).text
    job.set_status("started")
    job.meta = {"progress": {"step": "train", "percent": 43, "seconds_left": 200}}
    job.save_meta()
    page = client.get("/p/3/now", auth=main).text
    assert "Training" in page and 'value="43"' in page and "about 3 min left" in page and 'data-busy="yes"' in page
    whole = client.get("/p/3/", auth=main).text
    assert "Cancel round 7" in whole and "Start a round" not in whole and "Roll back" not in whole


def test_a_thumbnail_is_served_by_its_name_alone(client: FlaskClient, shown, main) -> None:
    page = client.get("/p/3/", auth=main).text
    name = re.findall(r'src="(thumbnails/[0-9a-f]{64}\.jpg)"', page)[0]
    answer = client.get(f"/p/3/{name}", auth=VIEWER)
    assert answer.mimetype == "image/jpeg" and answer.data[:2] == b"\xff\xd8" and "no-store" not in str(answer.headers)
    for wrong in ("0" * 64, "..%2f..%2fsecrets", "a" * 63):
        assert client.get(f"/p/3/thumbnails/{wrong}.jpg", auth=main).status_code == 404


def test_a_report_is_one_file_that_needs_nothing_else(settings: Settings, shown, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    told = write_report(settings, None, shown.folder, out)
    page = out.read_text()
    assert "maskal-r6" in told and page.count("data:image/jpeg;base64,") == 16
    assert not re.findall(r'(?:src|href|action)="(?!data:|#)[^"]*"', page), "every address is in the file"
    assert "<form" not in page and "127.0.0.1" not in page and "<script" not in page
    assert "What is wrong" not in page, "whoever gets it cares for no Redis"
    assert "What it has learned" in page and "What annotating takes" in page and "default-src 'none'" in page


def test_one_image_and_one_annotation_are_told_as_one(client: FlaskClient, shown, main) -> None:
    path = shown.folder.path / "versions" / "maskal-r6" / "summary.json"
    write_json(path, {**json.loads(path.read_text()), "without": 1})
    shown.look(effort=asdict(Effort(41, 12, 1)))
    page = client.get("/p/3/", auth=main).text
    assert "In 1 more open image nothing was found." in page
    assert "1 older or imported annotation is of unknown origin and does not count here." in page
    shown.look(effort=asdict(Effort(unknown_images=1)))
    told = "nobody has annotated since counting began. 1 older or imported annotation is of unknown origin."
    assert told in client.get("/p/3/", auth=main).text


def test_a_version_that_was_accepted_last_and_rolled_back_since_is_told_so(client: FlaskClient, shown, main) -> None:
    shown.folder.registry.set_current("maskal-r4")
    note_rollback(shown.folder, "maskal-r6", "maskal-r4")
    page = client.get("/p/3/now", auth=main).text
    assert "maskal-r4 is served" in page
    assert "maskal-r6 was accepted, and rolled back since; maskal-r4 goes on: not significantly worse on" in page


def test_a_project_without_a_title_goes_by_its_number(client: FlaskClient, settings: Settings, main) -> None:
    ShownProject(settings.data_dir, title="").look(front=[])
    for path in ("/", "/p/3/"):
        assert re.search(r"<h[12]>Project 3</h[12]>", client.get(path, auth=main).text)
