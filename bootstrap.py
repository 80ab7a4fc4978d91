"""Build the two virtual environments: `.venv` for the project, `.venv-labelstudio` for Label Studio.

Run by `make setup` with whatever Python is at hand, so this file keeps to the standard library and to
syntax that an old Python can read well enough to print the error about its age.
"""

import hashlib
import os
import shutil
import subprocess
import sys

OLDEST, NEWEST = (3, 10), (3, 13)
NEEDED_GB = 9
STAMP = "complete"
PURE_SOURCES = "attr,django-ranged-fileresponse,drf-flex-fields,drf-generators,ordered-set"  # pure Python, no wheels
HERE = os.path.dirname(os.path.abspath(__file__))

ENVIRONMENTS = [
    {
        "folder": ".venv",
        "what": "the project",
        "command": "maskal",
        "arguments": ["--only-binary", ":all:", "--constraint", "constraints.txt", "--editable", ".[demo,test,lint]"],
        "made_from": ["setup.cfg", "pyproject.toml", "constraints.txt", "bootstrap.py"],
    },
    {
        "folder": ".venv-labelstudio",
        "what": "Label Studio",
        "command": "label-studio",
        "arguments": [
            "--only-binary",
            ":all:",
            "--no-binary",
            PURE_SOURCES,
            "--constraint",
            "constraints-labelstudio.txt",
            "label-studio",
        ],
        "made_from": ["constraints-labelstudio.txt", "bootstrap.py"],
    },
]


def fail(message):
    """Print one line and end with code 1."""
    sys.exit("setup: " + message)


def check_python():
    """End unless this Python can run the project and make virtual environments."""
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        fail(
            "Python %d.%d to %d.%d is needed, %s is %d.%d; choose one with `make PYTHON=python3.12 setup`"
            % (OLDEST + NEWEST + (sys.executable,) + version)
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail("this Python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv")


def digest(environment):
    """Hash of all that an environment is made from."""
    seen = hashlib.sha256(sys.version.encode() + repr(environment["arguments"]).encode())
    for name in environment["made_from"]:
        with open(os.path.join(HERE, name), "rb") as file:
            seen.update(file.read())
    return seen.hexdigest()


def is_complete(environment, wanted):
    """Whether an environment was built to its end from exactly these files."""
    stamp = os.path.join(HERE, environment["folder"], STAMP)
    if not os.path.exists(stamp):
        return False
    with open(stamp) as file:
        return file.read() == wanted


def build(environment, wanted):
    """Make or update one environment; its stamp is written last, so that an interrupted one is built again."""
    folder = os.path.join(HERE, environment["folder"])
    free_gb = shutil.disk_usage(HERE).free / 1e9
    if not os.path.exists(folder) and free_gb < NEEDED_GB:
        fail("%.1f GB are free here, %d GB are needed; make room" % (free_gb, NEEDED_GB))
    print("setup: installing %s into %s (some minutes the first time)" % (environment["what"], environment["folder"]))
    stamp, log = os.path.join(folder, STAMP), folder + ".log"
    if os.path.exists(stamp):
        os.remove(stamp)
    python = os.path.join(folder, "bin", "python")
    commands = [[python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"] + environment["arguments"]]
    if not os.path.exists(python):
        commands.insert(0, [sys.executable, "-m", "venv", "--clear", folder])
    with open(log, "w") as output:
        for command in commands:
            if subprocess.call(command, cwd=HERE, stdout=output, stderr=subprocess.STDOUT):
                fail("%s could not be installed: %s (all of it in %s)" % (environment["what"], reason(log), log))
    with open(stamp, "w") as file:
        file.write(wanted)
    os.remove(log)


def reason(log):
    """The line of pip's output that says what went wrong."""
    with open(log, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    return (errors or lines or ["no output"])[-1]


def main():
    """Bring both environments up to date; seconds if they are."""
    check_python()
    for environment in ENVIRONMENTS:
        wanted = digest(environment)
        if not is_complete(environment, wanted):
            build(environment, wanted)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; the next run goes on")
