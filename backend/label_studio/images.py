"""From a task to its image: fetched with the task's rights, checked, cached, decoded."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from backend.errors import BadImage, LabelStudioBusy, WrongToken
from backend.label_studio.client import LabelStudio
from backend.label_studio.hosts import pinned
from backend.settings import Settings
from model.errors import BadImageFile
from model.files import write_atomically
from model.image_files import decode_image

logger = logging.getLogger(__name__)

MAX_REDIRECTS = 5
READ_TIMEOUT_S = 30.0
FETCH_TIMEOUT_S = 300.0
ATTEMPTS = 3


class _TryAgain(BadImage):
    """A fetch failed in a way that may pass."""


class Images:
    """Images of one Label Studio server, kept in a cache on disk under `DATA_DIR/cache/images`.

    `login` is the project's name and password for task data, shown to a host that asks for one.
    """

    def __init__(self, client: LabelStudio, settings: Settings, login: tuple[str, str] | None = None) -> None:
        self.client = client
        self.settings = settings
        self.login = login
        self.folder = settings.data_dir / "cache" / "images"

    def load(self, uri: str | None, task_id: int) -> np.ndarray:
        """RGB uint8 (h, w, 3), turned as its EXIF orientation says.

        Raises BadImage, which names the task and the reason, LabelStudioBusy if Label Studio gives no answer, or
        WrongToken if it does not accept the API key.
        """
        if not isinstance(uri, str) or not uri:
            raise BadImage(f"task {task_id} holds no image address, got {uri!r}; check its data")
        name = hashlib.sha256(f"{self.client.url}\n{uri}".encode()).hexdigest()
        path = self.folder / name[:2] / name
        try:
            content = path.read_bytes()
            os.utime(path)  # the cache drops what was not used for longest
            return self._decode(content, task_id)
        except FileNotFoundError:
            pass
        except BadImage:
            logger.warning("the cached image of task %d cannot be used and is fetched again", task_id)
        content = self.fetch(uri, task_id)
        image = self._decode(content, task_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        return image

    def fetch(self, uri: str, task_id: int) -> bytes:
        """The image file itself, past the cache; what may be a passing failure is tried three times."""
        retrying = Retrying(
            retry=retry_if_exception_type((_TryAgain, LabelStudioBusy)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(multiplier=0.3, max=3),
            reraise=True,
        )
        return retrying(self._fetch_once, uri, task_id)

    def _fetch_once(self, uri: str, task_id: int) -> bytes:
        first = url = _address(self.client.image_address(uri, task_id), task_id)
        with httpx.Client(timeout=READ_TIMEOUT_S, follow_redirects=False) as http:
            for _ in range(MAX_REDIRECTS + 1):
                is_first = (url.scheme, url.host, url.port) == (first.scheme, first.host, first.port)
                with self._answer(http, url, task_id, is_first_host=is_first) as response:
                    if not response.has_redirect_location:
                        return self._read(response, task_id)
                    url = _address(response.headers["location"], task_id, url)
        raise BadImage(
            f"the image of task {task_id} is redirected more than {MAX_REDIRECTS} times; use its final address"
        )

    @contextmanager
    def _answer(
        self, http: httpx.Client, url: httpx.URL, task_id: int, *, is_first_host: bool
    ) -> Iterator[httpx.Response]:
        """The answer to one request, its body not read yet; the API key goes to Label Studio alone."""
        is_own = self.client.is_own(str(url))
        auth: httpx.Auth | None = self.client.auth if is_own else None
        if not is_own and is_first_host and self.login is not None:
            auth = _LoginOnDemand(*self.login)
        requests = [http.build_request("GET", url)]
        if not is_own:
            requests = pinned(requests[0], self.settings.allowed_private_hosts, task_id)
        try:
            response = _send_first(http, requests, auth)
        except httpx.RequestError as err:
            raise self._no_answer(is_own, url, task_id, err) from err
        try:
            if is_own and response.status_code == 401:
                raise WrongToken(f"Label Studio does not accept the API key for the image of task {task_id}; renew it")
            yield response
        except httpx.RequestError as err:  # Label Studio too did answer: the fault is this image's
            raise _TryAgain(
                f"the image of task {task_id} broke off on its way from {url.host} ({type(err).__name__}); "
                "check that it opens in a browser"
            ) from err
        finally:
            response.close()

    @staticmethod
    def _no_answer(is_own: bool, url: httpx.URL, task_id: int, err: httpx.RequestError) -> Exception:
        if is_own:
            return LabelStudioBusy(f"the image of task {task_id} could not be fetched ({type(err).__name__})")
        return _TryAgain(
            f"{url.host} gave no answer for the image of task {task_id} ({type(err).__name__}); check its address"
        )

    def _read(self, response: httpx.Response, task_id: int) -> bytes:
        if response.status_code != 200:
            kind = _TryAgain if response.status_code >= 500 or response.status_code == 429 else BadImage
            raise kind(
                f"the server answered {response.status_code} for the image of task {task_id}; check its address and, "
                "for cloud storage, the project's storage settings"
            )
        limit, deadline = self.settings.max_image_mb * 1e6, time.monotonic() + FETCH_TIMEOUT_S
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > limit:
                raise BadImage(
                    f"the image of task {task_id} is larger than {self.settings.max_image_mb:g} MB; "
                    "make it smaller or raise MAX_IMAGE_MB"
                )
            if time.monotonic() > deadline:
                raise BadImage(
                    f"the image of task {task_id} did not arrive within {FETCH_TIMEOUT_S:g} s; use a quicker server"
                )
        return bytes(content)

    def _decode(self, content: bytes, task_id: int) -> np.ndarray:
        try:
            return decode_image(content, f"the image of task {task_id}", self.settings.max_image_megapixels)
        except BadImageFile as err:
            raise BadImage(str(err)) from err


def _address(text: str, task_id: int, base: httpx.URL | None = None) -> httpx.URL:
    try:
        url = httpx.URL(text) if base is None else base.join(text)
        _ = url.host  # which is decoded only now, and may be no name
    except (httpx.InvalidURL, ValueError) as err:
        raise BadImage(f"the image of task {task_id} has no valid address ({err}); correct it in the task") from err
    return url


class _LoginOnDemand(httpx.Auth):
    """Name and password, shown only to a host that answers 401."""

    def __init__(self, user: str, password: str) -> None:
        self.basic = httpx.BasicAuth(user, password)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Ask without, then with the login."""
        response = yield request
        if response.status_code == 401:
            yield from self.basic.auth_flow(request)


def _send_first(http: httpx.Client, requests: Sequence[httpx.Request], auth: httpx.Auth | None) -> httpx.Response:
    """The answer to the first of several equal requests whose address takes a connection; its body is not read yet."""
    *others, last = requests
    for request in others:
        with suppress(httpx.ConnectError, httpx.ConnectTimeout):
            return http.send(request, stream=True, auth=auth)
    return http.send(last, stream=True, auth=auth)


def trim_cache(folder: Path, limit_bytes: float) -> int:
    """Delete the files of the image cache that were not used for longest until it fits; returns how many went."""
    sizes: list[tuple[float, int, Path]] = []
    for path in folder.glob("*/*"):
        with suppress(FileNotFoundError):  # another process tidies, or finishes a file
            facts = path.stat()
            sizes.append((facts.st_mtime, facts.st_size, path))
    total, removed = sum(size for _, size, _ in sizes), 0
    for _, size, path in sorted(sizes):
        if total <= limit_bytes:
            break
        path.unlink(missing_ok=True)
        total -= size
        removed += 1
    return removed
