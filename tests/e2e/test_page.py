"""The page in a browser, over projects on disk; with the real Label Studio: test_page_of_a_real_project.py."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from redis import Redis
from rq import Queue
from werkzeug.serving import make_server

from backend.project.credentials import BASIC_USER, load_credentials
from backend.project.folder import ProjectFolder, connect_folder
from backend.queue.jobs import ROUNDS, RUN_ROUND
from backend.rounds.history import note_rollback
from backend.settings import Settings
from backend.system.processes import Processes
from backend.system.redis_server import start_redis
from backend.web import pages
from backend.web.app import create_app
from backend.web.report import write_report
from tests.backend.shown_project import UID, ShownProject
from tests.e2e.browser import open_browser
from tests.e2e.waiting import wait_for

pytestmark = pytest.mark.e2e

PHONE = {"width": 375, "height": 800}
DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("redis")
    with Processes() as processes:
        yield start_redis(processes, folder, folder / "log")


class Served:
    """The web app over a folder of data, in this process."""

    def __init__(self, settings: Settings, browser: Browser) -> None:
        self.settings, self.browser = settings, browser
        self.redis = Redis.from_url(settings.redis_url)
        self.redis.flushall()
        self.server = make_server("127.0.0.1", 0, create_app(settings), threaded=True)
        self.url = f"http://127.0.0.1:{self.server.port}"

    @contextmanager
    def page(
        self, path: str = "/p/3/", user: str = BASIC_USER, password: str | None = None, **options
    ) -> Iterator[Page]:
        """A page in a browser that knows the password; any error in its console fails the test."""
        known = password or load_credentials(self.settings).basic_password
        login = {"username": user, "password": known}
        context = self.browser.new_context(http_credentials=login, **{"viewport": DESKTOP, **options})
        page, errors = context.new_page(), []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(self.url + path)
        yield page
        context.close()
        assert errors == []


@pytest.fixture
def served(tmp_path: Path, redis_url: str, browser: Browser) -> Iterator[Served]:
    (tmp_path / "data").mkdir()
    settings = Settings(data_dir=tmp_path / "data", redis_url=redis_url, viewer_password="look")
    made = Served(settings, browser)
    threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def shown(served: Served) -> ShownProject:
    project = ShownProject(served.settings.data_dir)
    project.make_versions()
    project.look()
    return project


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html']} {node['failureSummary']}" for one in found for node in one["nodes"]]


def begin_round(served: Served, project: ShownProject, percent: int) -> None:
    project.begin_round()
    queue = Queue(ROUNDS, connection=served.redis)
    job = queue.enqueue_call("backend.workers.jobs.run_round", args=(UID,), job_id=RUN_ROUND.id_for(UID))
    job.set_status("started")
    job.meta = {"progress": {"step": "train", "percent": percent, "seconds_left": 200}}
    job.save_meta()


def nothing(served: Served, project: ShownProject) -> None:
    """As it is."""


def all_wrong(served: Served, project: ShownProject) -> None:
    project.look(**project.trouble())
    begin_round(served, project, 40)


def never_trained(served: Served, project: ShownProject) -> None:
    (project.folder.path / "current").unlink()
    for name in ("history.jsonl", "standing.json"):
        (project.folder.path / name).unlink()
    for name in project.folder.registry.names():
        project.folder.registry.remove(name)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
@pytest.mark.parametrize("state", [all_wrong, pytest.param(nothing, marks=pytest.mark.slow), never_trained])
def test_axe_finds_no_fault(
    served: Served, shown: ShownProject, state: Callable[[Served, ShownProject], None], scheme: str
) -> None:
    state(served, shown)
    with served.page(color_scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert violations(page) == []
        page.goto(f"{served.url}/")
        assert violations(page) == []


@pytest.mark.parametrize("state", [pytest.param(nothing, marks=pytest.mark.slow), all_wrong])
def test_nothing_is_wider_than_a_phone(served: Served, shown: ShownProject, state, artefacts: Path) -> None:
    state(served, shown)
    with served.page(viewport=PHONE) as page:
        for path in ("/p/3/", "/"):
            page.goto(served.url + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.goto(f"{served.url}/p/3/")
        assert violations(page) == []
        page.screenshot(path=artefacts / "page_phone.png", full_page=True)


def test_a_running_round_moves_on_by_itself_and_is_told_to_screen_readers(served: Served, shown) -> None:
    begin_round(served, shown, 10)
    with served.page() as page:
        bar = page.get_by_role("progressbar", name="Training")
        expect(bar).to_have_attribute("value", "10")
        job = Queue(ROUNDS, connection=served.redis).fetch_job(RUN_ROUND.id_for(UID))
        job.meta = {"progress": {"step": "evaluate", "percent": 60, "seconds_left": 30}}
        job.save_meta()
        page.evaluate("window.stays = true")
        moved = page.get_by_role("progressbar", name="Measuring on the validation images")
        expect(moved).to_have_attribute("value", "60", timeout=15_000)
        expect(page.get_by_role("status")).to_have_text("Round 7: Measuring on the validation images")
        assert page.evaluate("window.stays"), "the page was not loaded anew"
        begun = shown.begin_round(7, "refused")
        begun.state.reason = "significantly worse"
        begun.save()
        expect(page.get_by_text("maskal-r7 was refused; maskal-r6 goes on: significantly worse.")).to_be_visible(
            timeout=15_000
        )
        expect(page.get_by_text("Start a round …")).to_be_visible(timeout=15_000)


@pytest.mark.slow
def test_the_page_does_not_move_under_somebody_who_is_about_to_press_a_button(served: Served, shown) -> None:
    with served.page() as page:
        page.get_by_text("Roll back …").click()
        page.get_by_label("Serve again").select_option("maskal-r2")
        page.evaluate("window.stays = true")
        with page.expect_response(lambda answer: answer.url.endswith("/now")):
            shown.begin_round()
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.get_by_role("heading", name="maskal-r6 is served")).to_be_visible()
        assert page.evaluate("window.stays") and page.get_by_label("Serve again").input_value() == "maskal-r2"


def go_back(settings: Settings, redis: Redis, folder: ProjectFolder, to: str | None) -> str:
    """As `care.rollback.roll_back` does it, but for Label Studio."""
    note_rollback(folder, folder.registry.current(), str(to))
    folder.registry.set_current(str(to))
    return f"project 3 is served by {to} again"


@pytest.mark.parametrize(
    "script", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["with a script", "without"]
)
def test_the_button_rolls_back_after_a_confirmation(
    served: Served, shown: ShownProject, monkeypatch: pytest.MonkeyPatch, script: bool
) -> None:
    monkeypatch.setattr(pages, "roll_back", go_back)
    with served.page(java_script_enabled=script) as page:
        expect(page.get_by_role("button", name="Roll back")).to_be_hidden()
        page.get_by_text("Roll back …").press("Enter")
        page.get_by_label("Serve again").select_option("maskal-r2")
        page.get_by_role("button", name="Roll back").press("Enter")
        if not script:
            page.wait_for_url("**/p/3/")
            page.reload()
        expect(page.get_by_role("heading", name="maskal-r2 is served")).to_be_visible(timeout=20_000)
        expect(page.get_by_text("project 3 is served by maskal-r2 again")).to_be_visible()
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="maskal-r6", exact=True))
        expect(row).to_contain_text("rolled back")
    assert shown.folder.registry.current() == "maskal-r2"


@pytest.mark.slow
def test_without_a_script_everything_is_there(served: Served, shown: ShownProject) -> None:
    with served.page(java_script_enabled=False) as page:
        for heading in ("What it has learned", "How certain it is", "What comes next", "What it gets wrong"):
            expect(page.get_by_role("heading", name=heading)).to_be_visible()
        expect(page.get_by_role("img", name="Mask AP over annotated images")).to_be_visible()
        page.get_by_text("Start a round …").click()
        page.get_by_role("button", name="Start a round").click()
        expect(page.get_by_text(re.compile("A round was asked for|asking for a round")).first).to_be_visible()
    assert served.redis.exists(f"maskal:force:{UID}")


@pytest.mark.slow
def test_a_refused_version_is_told_in_words_and_by_its_mark(served: Served, shown: ShownProject) -> None:
    with served.page() as page:
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="maskal-r3"))
        expect(row).to_contain_text("refused")
        expect(row).to_contain_text("significantly worse on 9 validation images")
        assert page.locator("#learning .point.refused .cross").count() == 2, "in the chart and in its legend"


def test_strangers_see_nothing_and_viewers_no_buttons(served: Served, shown: ShownProject, browser: Browser) -> None:
    context = browser.new_context(http_credentials={"username": "viewer", "password": "wrong"})
    page = context.new_page()
    answer = page.goto(f"{served.url}/p/3/")
    assert answer is not None and answer.status == 401 and "Broccoli" not in page.content()
    context.close()
    with served.page(user="viewer", password="look") as page:
        expect(page.get_by_role("heading", name="Broccoli, field 7")).to_be_visible()
        expect(page.get_by_text("You may look")).to_be_visible()
        assert page.get_by_role("button").count() == 0 and violations(page) == []


def test_names_with_markup_run_nothing(served: Served) -> None:
    connect_folder(served.settings.data_dir, UID)
    nasty = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title='broken'\">"
    project = ShownProject(served.settings.data_dir, classes=(nasty, "leaf"), title=nasty)
    project.make_versions()
    project.look()
    with served.page() as page:
        expect(page.get_by_role("heading", name=nasty)).to_be_visible()
        assert page.title() == f"{nasty} · MaskAL" and page.locator("script").count() == 1


@pytest.mark.slow
def test_the_keyboard_reaches_the_content_and_every_wide_table(served: Served, shown: ShownProject) -> None:
    with served.page(viewport=PHONE) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        assert page.url.endswith("#main")
        wide = page.locator(".scroll:visible").all()
        assert len(wide) == 3
        for table in wide:
            table.focus()
            expect(table).to_be_focused()


@pytest.mark.slow
def test_a_report_opens_from_a_folder_with_all_its_pictures(served: Served, shown, tmp_path: Path, browser) -> None:
    write_report(served.settings, None, shown.folder, tmp_path / "report.html")
    context = browser.new_context(offline=True)
    page, errors = context.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(f"file://{tmp_path}/report.html")
    page.locator("img").last.scroll_into_view_if_needed()
    sizes = page.evaluate("[...document.images].map(image => { image.loading = 'eager'; return image.naturalWidth; })")
    assert len(sizes) == 16
    are_loaded = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    wait_for(lambda: page.evaluate(are_loaded), "the pictures", 10)
    assert page.evaluate("getComputedStyle(document.querySelector('.card')).borderRadius") != "0px", "it has its style"
    assert errors == []
    context.close()
    page = browser.new_page(bypass_csp=True)  # the policy of a report lets no script be added
    page.goto(f"file://{tmp_path}/report.html")
    assert violations(page) == []
    page.close()
