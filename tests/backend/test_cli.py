from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from backend.cli import main
from backend.project.folder import connect_folder
from backend.rounds.folder import start_round
from backend.system.processes import free_port


def run(*arguments: str, **environment: str):
    return CliRunner().invoke(main, list(arguments), env=environment)


def test_help_lists_the_commands() -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    assert all(command in shown.output for command in ("serve", "worker", "connect", "status", "demo"))


def test_wrong_usage_ends_with_2() -> None:
    assert run("connect").exit_code == 2
    assert run("demo", "--rounds", "0").exit_code == 2
    assert run("demo", "--port", "65536").exit_code == run("demo", "--backend-port", "0").exit_code == 2
    shown = run("demo", "--report", "report.json")
    assert shown.exit_code == 2 and "add --headless" in shown.output
    shown = run("demo", "--images", ".")
    assert shown.exit_code == 2 and "--images and --annotations belong together" in shown.output
    for options in ((), ("--task", "1", "--label", "leaf")):
        shown = run("like", "--project", "1", *options)
        assert shown.exit_code == 2 and "either --task or --label" in shown.output
    shown = run("like", "--project", "1", "--label", "leaf", "--region", "a")
    assert shown.exit_code == 2 and "--region belongs to --task" in shown.output


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("worker",), {"REDIS_URL": "redis://127.0.0.1:9"}, "maskal: no Redis answers at redis://127.0.0.1:9"),
        (("serve",), {"PORT": "many"}, "maskal: environment variable PORT must be a port from 1 to 65535, got 'many'"),
        (("connect", "--project", "1"), {"LABEL_STUDIO_URL": ""}, "maskal: the address and an API key of Label Studio"),
        (
            ("demo", "--headless", "--limit", "6"),
            {"LABEL_STUDIO_EXECUTABLE": "/no/such"},
            "maskal: LABEL_STUDIO_EXECUTABLE names /no/such, which cannot be run",
        ),
    ],
)
def test_a_mistake_ends_as_one_line_with_1(arguments, environment, message: str, tmp_path: Path) -> None:
    shown = run(*arguments, **{"DATA_DIR": str(tmp_path / "data"), **environment})
    lines = [line for line in shown.output.splitlines() if line.startswith("maskal: ")]
    assert shown.exit_code == 1
    assert len(lines) == 1 and lines[0].startswith(message)


def test_a_folder_that_is_missing_is_named_and_not_the_file_that_was_to_be_made_there(tmp_path: Path) -> None:
    connect_folder(tmp_path, "1.1")
    out = tmp_path / "missing" / "report.html"
    shown = run("report", "--project", "1", "--out", str(out), DATA_DIR=str(tmp_path), REDIS_URL="redis://127.0.0.1:9")
    assert shown.exit_code == 1
    assert shown.output.splitlines()[-1] == f"maskal: No such file or directory: {out.parent}; make it"


def test_serve_tells_of_damaged_secrets_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{broken")
    shown = run("serve", DATA_DIR=str(tmp_path), PORT=str(free_port()))
    assert shown.exit_code == 1
    assert (
        shown.output.startswith("maskal: secrets.json in DATA_DIR holds no JSON object")
        and "Traceback" not in shown.output
    )


def test_serve_tells_of_an_address_that_is_no_redis_in_one_line(tmp_path: Path) -> None:
    shown = run("serve", DATA_DIR=str(tmp_path), PORT=str(free_port()), REDIS_URL="redis:6379")
    assert shown.exit_code == 1
    assert shown.output.startswith("maskal: REDIS_URL must be an address such as") and "Traceback" not in shown.output


def test_a_damaged_file_of_a_project_is_named_in_one_line(tmp_path: Path) -> None:
    damaged = connect_folder(tmp_path, "1.1").path / "failed_images.json"
    damaged.write_text("{broken")
    shown = run("status", "--project", "1", DATA_DIR=str(tmp_path), REDIS_URL="redis://127.0.0.1:9")
    assert shown.exit_code == 1
    assert shown.output.splitlines()[-1].startswith(f"maskal: wanted JSON in {damaged}, got something else")


def test_status_without_redis_or_project_still_answers(tmp_path: Path) -> None:
    shown = run("status", DATA_DIR=str(tmp_path), REDIS_URL="redis://127.0.0.1:9")
    assert shown.exit_code == 0 and "no project is connected" in shown.output


def test_no_command_has_an_option_twice() -> None:
    waiting: list[click.Command] = [main]
    while waiting:
        command = waiting.pop()
        names = [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]
        assert len(names) == len(set(names)), command.name
        waiting += command.commands.values() if isinstance(command, click.Group) else ()


@pytest.mark.parametrize("argv", [["cancel"], ["rollback"], ["disconnect"]], ids=lambda argv: argv[0])
@pytest.mark.usefixtures("full_redis")
def test_a_redis_that_takes_no_data_is_told_in_one_line(tmp_path: Path, redis_url: str, argv: list[str]) -> None:
    start_round(connect_folder(tmp_path, "1.1"), 0)
    shown = run(*argv, "--project", "1", DATA_DIR=str(tmp_path), REDIS_URL=redis_url)
    assert shown.exit_code == 1
    assert len(shown.output.splitlines()) == 1 and shown.output.startswith("maskal: Redis takes no data (")
    assert "raise its maxmemory" in shown.output


def test_what_strangers_wrote_gives_no_orders_to_a_terminal(tmp_path: Path) -> None:
    current = start_round(connect_folder(tmp_path, "3.17"), 1)
    current.state.error = "a\x1b]0;gone\x07.jpg is broken"
    current.save()
    shown = run("status", "--project", "3", DATA_DIR=str(tmp_path), REDIS_URL="redis://127.0.0.1:9")
    assert r"last error: a\x1b]0;gone\x07.jpg is broken" in shown.output
    assert all(line.isprintable() for line in shown.output.splitlines())


def test_connect_asks_for_the_key_without_showing_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "backend.cli", "connect", "--project", "1", "--url", f"http://127.0.0.1:{free_port()}"],
        env={**os.environ, "DATA_DIR": str(tmp_path)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = ""
    with suppress(OSError):  # Linux ends a terminal so
        while part := os.read(ours, 1024).decode():
            shown += part
            if part.rstrip().endswith("):"):
                os.write(ours, b"not-to-be-seen\n")
    os.close(ours)
    assert process.wait() == 1
    assert "API key of Label Studio" in shown and "not-to-be-seen" not in shown
    assert "maskal: no answer from Label Studio" in shown


WORKING = """
import time
from backend.cli import main

@main.command()
def work_for_a_while():
    from tqdm import tqdm
    for _ in tqdm(range(12)):
        time.sleep(0.15)

main(["work-for-a-while"])
"""


def test_progress_that_is_written_to_a_file_does_not_fill_it() -> None:
    def drawings(**environment: str) -> int:
        told = {name: value for name, value in os.environ.items() if name != "TQDM_MININTERVAL"} | environment
        done = subprocess.run([sys.executable, "-c", WORKING], env=told, stderr=subprocess.PIPE, text=True, check=True)
        assert "100%" in done.stderr
        return done.stderr.count("%")

    assert drawings() == 2, "its beginning and its end"
    assert drawings(TQDM_MININTERVAL="0.1") > 5, "somebody wants more"
