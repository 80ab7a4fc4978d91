"""The whole system on one machine: Redis, Label Studio, the backend and the worker, started and watched."""

from __future__ import annotations

import secrets
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import httpx

from backend.errors import BadSetting, ProcessFailed
from backend.label_studio.client import LabelStudio
from backend.label_studio.connections import open_http
from backend.settings import Settings, child_environment
from backend.system.processes import Processes, free_port, require_port_free
from backend.system.redis_server import start_redis
from model.files import read_json, write_json

EMAIL = "demo@example.com"
START_TIMEOUT_S = 600.0
LABEL_STUDIO = "Label Studio"


@dataclass(frozen=True)
class Login:
    """The one user of a Label Studio that this stack made."""

    email: str
    password: str
    token: str


@dataclass(frozen=True)
class Stack:
    """A running system: Label Studio's address and login, and the settings that backend and worker run with."""

    label_studio_url: str
    login: Login
    settings: Settings

    def client(self) -> LabelStudio:
        """Label Studio, as its user."""
        return LabelStudio(self.label_studio_url, self.login.token)


def start_stack(
    processes: Processes,
    settings: Settings,
    folder: Path,
    *,
    port: int | None = None,
    backend_port: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Stack:
    """Start all four on loopback with everything kept in `folder`; ports of None are chosen.

    Raises BadSetting for one port twice, ProcessFailed with one line about what did not start. Stopping is up to
    `processes`.
    """
    executable = find_label_studio(settings)
    if port is not None and port == backend_port:
        raise BadSetting(f"Label Studio and the backend cannot both have port {port}; change --port or --backend-port")
    for number, what, option in ((port, "Label Studio", "--port"), (backend_port, "the backend", "--backend-port")):
        if number is not None:
            require_port_free(number, what, option)
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    login = _login(folder)
    redis_url = settings.redis_url
    if redis_url is None:
        tell("starting Redis")
        redis_url = start_redis(processes, folder / "redis", logs / "redis.log")
    url = f"http://127.0.0.1:{free_port(port)}"
    tell(f"starting Label Studio at {url} (half a minute the first time)")
    begin_label_studio(processes, folder, url, login, executable=executable)
    backend = f"http://127.0.0.1:{free_port(backend_port)}"
    own = replace(
        settings,
        data_dir=folder / "data",
        redis_url=redis_url,
        host="127.0.0.1",
        port=httpx.URL(backend).port or 0,
        backend_url=backend,
        label_studio_url=url,
        label_studio_api_key=login.token,
    )
    tell(f"starting the backend at {backend} and the worker")
    start_backend(processes, own, logs)
    processes.wait(LABEL_STUDIO, lambda: is_up(f"{url}/health"), START_TIMEOUT_S)
    return Stack(url, login, own)


def find_label_studio(settings: Settings) -> str:
    """The `label-studio` command: LABEL_STUDIO_EXECUTABLE, `.venv-labelstudio` beside this environment, or the PATH."""
    environment = Path(sys.prefix).parent / ".venv-labelstudio" / "bin" / "label-studio"
    candidates = (settings.label_studio_executable, str(environment), "label-studio")
    for candidate in candidates:
        found = shutil.which(candidate) if candidate else None
        if found:
            return found
        if candidate and candidate == settings.label_studio_executable:
            raise ProcessFailed(f"LABEL_STUDIO_EXECUTABLE names {candidate}, which cannot be run; correct or unset it")
    raise ProcessFailed(
        "Label Studio is not installed; run `make setup`, or install label-studio into an environment of its own and "
        "set LABEL_STUDIO_EXECUTABLE to its command"
    )


def is_up(url: str) -> bool:
    """Whether an address answers 200."""
    try:
        with open_http(url, timeout=2) as http:
            return http.get(url).status_code == 200
    except httpx.HTTPError:
        return False


def _login(folder: Path) -> Login:
    path = folder / "login.json"
    if not path.exists():
        write_json(path, asdict(Login(EMAIL, secrets.token_urlsafe(9), secrets.token_hex(20))), mode=0o600)
    return Login(**read_json(path))


def start_label_studio(
    processes: Processes, folder: Path, url: str, login: Login, *, executable: str, **environment: str
) -> None:
    """Start Label Studio as `begin_label_studio` does and wait until it answers."""
    begin_label_studio(processes, folder, url, login, executable=executable, **environment)
    processes.wait(LABEL_STUDIO, lambda: is_up(f"{url}/health"), START_TIMEOUT_S)


def begin_label_studio(
    processes: Processes, folder: Path, url: str, login: Login, *, executable: str, **environment: str
) -> None:
    """Start Label Studio at a loopback address with its data in `folder`, both of its network switches off."""
    port = str(httpx.URL(url).port)
    variables = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "label-studio"),
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",  # no reports of errors to its makers, which also hide the error at the log's end
        "FRONTEND_SENTRY_DSN": "",
        "LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_PASSWORD": login.password,
        "LABEL_STUDIO_USER_TOKEN": login.token,
    }
    argv = [executable, "start", "--no-browser", "-p", port, "--internal-host", "127.0.0.1"]
    argv += ["--username", login.email, "--enable-legacy-api-token"]
    log = folder / "logs" / "label-studio.log"
    processes.start(LABEL_STUDIO, argv, env=child_environment(**{**variables, **environment}), log=log)


def start_backend(processes: Processes, settings: Settings, logs: Path) -> None:
    """Start `maskal worker` and `maskal serve` with those settings, and wait until the second answers."""
    environment = environment_of(settings)
    command = [sys.executable, "-m", "backend.cli"]
    processes.start("worker", [*command, "worker"], env=environment, log=logs / "worker.log", ready=None, timeout_s=60)
    start_web_app(processes, settings, logs)


def start_web_app(processes: Processes, settings: Settings, logs: Path) -> None:
    """Start `maskal serve` with those settings and wait until it answers."""
    processes.start(
        "backend",
        [sys.executable, "-m", "backend.cli", "serve"],
        env=environment_of(settings),
        log=logs / "backend.log",
        ready=lambda: is_up(f"{settings.backend_url}/health"),
        timeout_s=120,
    )


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment from which `read_settings` reads those settings."""
    return child_environment(
        DATA_DIR=str(settings.data_dir),
        REDIS_URL=settings.redis_url or "",
        HOST=settings.host,
        PORT=str(settings.port),
        BACKEND_URL=settings.backend_url or "",
        LABEL_STUDIO_URL=settings.label_studio_url or "",
        LABEL_STUDIO_API_KEY=settings.label_studio_api_key or "",
        LABEL_STUDIO_PUBLIC_URL=settings.label_studio_public_url or "",
        MASKAL_BASIC_PASSWORD=settings.basic_password or "",
    )


def write_shell_settings(settings: Settings, folder: Path) -> Path:
    """Write what a shell sources so that `maskal` is found there and works on this system; returns the file."""
    names = {"DATA_DIR": str(settings.data_dir), "REDIS_URL": settings.redis_url or ""}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in names.items()]
    lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
    path = folder / "environment"
    path.touch(mode=0o600)  # the address of a Redis may hold a password
    path.write_text("\n".join(lines) + "\n")
    return path
