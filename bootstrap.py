"""Build the two virtual environments: `.venv` for the project, `.venv-labelstudio` for Label Studio.

Run by `make setup` with whatever Python is at hand, so this file keeps to the standard library and to
syntax that an old Python can read well enough to print the error about its age.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from typing import List, NamedTuple

OLDEST, NEWEST = (3, 10), (3, 13)
NEEDED_GB = 9
STAMP = "complete"
PURE_SOURCES = "attr,django-ranged-fileresponse,drf-flex-fields,drf-generators,ordered-set"  # pure Python, no wheels
HERE = os.path.dirname(os.path.abspath(__file__))


class Environment(NamedTuple):
    """A virtual environment: its folder, what it is for, pip's arguments and the files that it is made from."""

    folder: str
    what: str
    arguments: List[str]
    made_from: List[str]


ENVIRONMENTS = [
    Environment(
        ".venv",
        "the project",
        ["--only-binary", ":all:", "--constraint", "constraints.txt", "--editable", ".[demo,test,lint]"],
        ["setup.cfg", "pyproject.toml", "constraints.txt", "bootstrap.py"],
    ),
    Environment(
        ".venv-labelstudio",
        "Label Studio",
        ["--only-binary", ":all:", "--no-binary", PURE_SOURCES]
        + ["--constraint", "constraints-labelstudio.txt", "label-studio"],
        ["constraints-labelstudio.txt", "bootstrap.py"],
    ),
]


class SetupFailed(Exception):
    """What went wrong and what to do, in one line."""


def check_python() -> None:
    """Raise SetupFailed unless this Python can run the project and make virtual environments."""
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        raise SetupFailed(
            "Python %d.%d to %d.%d is needed, %s is %d.%d; choose one with `make PYTHON=python3.12 setup`"
            % (OLDEST + NEWEST + (sys.executable,) + version)
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise SetupFailed(
            "this Python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"
        ) from None


def digest(environment: Environment) -> str:
    """Hash of all that an environment is made from, and of its place, which its commands name."""
    seen = hashlib.sha256(repr((sys.version, HERE, environment.arguments)).encode())
    for name in environment.made_from:
        with open(os.path.join(HERE, name), "rb") as file:
            seen.update(file.read())
    return seen.hexdigest()


def is_complete(environment: Environment, wanted: str) -> bool:
    """Whether an environment was built to its end from exactly these files."""
    stamp = os.path.join(HERE, environment.folder, STAMP)
    if not os.path.exists(stamp):
        return False
    with open(stamp) as file:
        return file.read() == wanted


def can_be_updated(folder: str) -> bool:
    """Whether a folder holds a virtual environment that was finished, in this place and with this very Python."""
    try:
        with open(os.path.join(folder, "pyvenv.cfg")) as file:
            version = "version = %d.%d.%d" % sys.version_info[:3] in file.read().splitlines()
        with open(os.path.join(folder, "bin", "pip"), errors="replace") as file:
            return version and os.path.join(folder, "bin", "") in file.read(1000)
    except OSError:
        return False


def build(environment: Environment, wanted: str) -> None:
    """Make or update one environment; its stamp is written last, so that an interrupted one is built again."""
    folder = os.path.join(HERE, environment.folder)
    updates = can_be_updated(folder)
    free_gb = shutil.disk_usage(HERE).free / 1e9
    if not os.path.exists(folder) and free_gb < NEEDED_GB:
        raise SetupFailed("%.1f GB are free here, %d GB are needed; make room" % (free_gb, NEEDED_GB))
    print(
        "setup: installing %s into %s (some minutes the first time)" % (environment.what, environment.folder),
        flush=True,
    )
    stamp, log = os.path.join(folder, STAMP), folder + ".log"
    if os.path.exists(stamp):
        os.remove(stamp)
    python = os.path.join(folder, "bin", "python")
    commands = [[python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"] + environment.arguments]
    if not updates:
        commands.insert(0, [sys.executable, "-m", "venv", "--clear", folder])
    with open(log, "w") as output:
        for command in commands:
            if subprocess.call(command, cwd=HERE, stdout=output, stderr=subprocess.STDOUT):
                raise SetupFailed(
                    "%s could not be installed: %s (all of it in %s)" % (environment.what, reason(log), log)
                )
    with open(stamp, "w") as file:
        file.write(wanted)
    os.remove(log)


def reason(log: str) -> str:
    """The line of pip's output that says what went wrong."""
    with open(log, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    return errors[0] if errors else (lines or ["no output"])[-1]


def main() -> None:
    """Bring both environments up to date; seconds if they are."""
    check_python()
    for environment in ENVIRONMENTS:
        wanted = digest(environment)
        if not is_complete(environment, wanted):
            build(environment, wanted)


if __name__ == "__main__":
    try:
        main()
    except SetupFailed as err:
        sys.exit("setup: %s" % err)
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; the next run goes on")
