"""From a task to its image: fetched with the task's rights, checked, cached, decoded."""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from threading import Event, Timer
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import httpx
import numpy as np
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from backend.errors import BadImage, ImageUnavailable, LabelStudioBusy, WrongToken
from backend.label_studio.addresses import Addresses
from backend.label_studio.client import LabelStudio
from backend.label_studio.connections import by_proxy, open_http, why
from backend.label_studio.etags import Etag, read_etag, write_etag
from backend.label_studio.hosts import pinned
from backend.label_studio.replaced import Replacement, Replacements, replaced_at
from backend.settings import Settings
from model.errors import BadImageFile
from model.file_cache import cached_path, read_cached, trim_cache, write_cached
from model.image_files import decode_image

logger = logging.getLogger(__name__)

Taken = TypeVar("Taken")

MAX_REDIRECTS = 5
READ_TIMEOUT_S = 30.0
FETCH_TIMEOUT_S = 300.0
ATTEMPTS = 3

TRIMMED_AFTER = 0.05
"""Share of the cache's limit that is written before it is trimmed once more."""

PACKED_TOO_WELL = frozenset({"br", "zstd"})
"""Packings of which one part of an answer may unpack to gigabytes, as it does if it is packed twice."""

LONGEST_SHOWN = 100
"""Characters of what stands in a task in place of an address."""

BLANKS = "".join(map(chr, range(33)))
"""What browsers leave out around an address; a table of them brings it along."""

OF_LABEL_STUDIO = re.compile(r"/(data/(upload|local-files)|tasks/\d+/resolve|storage-data)/")
"""Paths that only Label Studio has."""


class Images:
    """Images of one Label Studio server, kept in a cache on disk under `DATA_DIR/cache/images`.

    `login` is the project's name and password for task data, shown to a host that asks for one. `project_id` is any
    project of the server, by which it is asked for its public address; None: nobody asks.
    """

    def __init__(
        self,
        client: LabelStudio,
        settings: Settings,
        login: tuple[str, str] | None = None,
        project_id: int | None = None,
    ) -> None:
        self.client = client
        self.settings = settings
        self.login = login
        self.project_id = project_id
        self.folder = settings.data_dir / "cache" / "images"
        self._replacements = Replacements(settings.data_dir)
        self._asks_again = True
        self._written = 0

    @cached_property
    def addresses(self) -> Addresses:
        """Which addresses are Label Studio's own."""
        if self.project_id is None:
            return Addresses(self.client.url, self.client.public_url or "")
        return self.client.addresses(self.project_id)

    def load(self, uri: str | None, task_id: int) -> np.ndarray:
        """RGB uint8 (h, w, 3), turned as its EXIF orientation says.

        Raises BadImage, which names the task and the reason (ImageUnavailable if it may pass), LabelStudioBusy if Label
        Studio gives no answer, or WrongToken if it does not accept the API key.
        """
        uri = _checked(uri, task_id)
        if _is_embedded(uri):
            return self._decode(self.fetch(uri, task_id), task_id)
        path = cached_path(self.folder, self._name(uri))
        cached, etag = read_cached(path), read_etag(path)
        if cached is not None and not self._is_replaced(path, etag, uri, task_id):
            try:
                return self._decode(cached, task_id)
            except BadImage:
                logger.warning("the cached image of task %d cannot be used and is fetched again", task_id)
        content, headers = self._fetch(uri, task_id)
        image = self._decode(content, task_id)
        if cached is not None and etag is not None and self._shows_another(cached, image, task_id):
            at = replaced_at(headers.get("Last-Modified", ""), etag.told_at)
            self._replacements.note(self._name(uri), content, at)
            logger.warning("the image of task %d was replaced at its address, %s", task_id, _shown(uri))
        self._keep(path, content, headers.get("ETag", ""))
        return image

    def replaced(self, uri: object) -> Replacement | None:
        """By what the image at an address was replaced since it was first fetched; None as far as anybody noticed."""
        bare = uri.strip(BLANKS) if isinstance(uri, str) else ""
        return None if _is_embedded(bare) else self._replacements.of(self._name(bare))

    def fetch(self, uri: str | None, task_id: int) -> bytes:
        """The image file itself, past the cache; what may be a passing failure is tried three times."""
        uri = _checked(uri, task_id)
        if _is_embedded(uri):
            return self._embedded(uri, task_id)
        return self._fetch(uri, task_id)[0]

    def _keep(self, path: Path, content: bytes, etag: str) -> None:
        """Put an image into the cache, which is not left to grow until the hourly tidying."""
        write_cached(path, content)
        write_etag(path, etag)
        self._written += len(content)
        limit = self.settings.image_cache_gb * 1e9
        if self._written > TRIMMED_AFTER * limit:
            self._written = 0
            trim_cache(self.folder, limit)

    def _name(self, uri: str) -> str:
        """What an address is known by among those of all servers."""
        return hashlib.sha256(f"{self.client.url}\n{uri}".encode()).hexdigest()

    def _shows_another(self, cached: bytes, image: np.ndarray, task_id: int) -> bool:
        """Whether a file that was kept shows another image than this one; no if it cannot be read."""
        try:
            return not np.array_equal(self._decode(cached, task_id), image)
        except BadImage:
            return False

    def _fetch(self, uri: str, task_id: int) -> tuple[bytes, httpx.Headers]:
        """An image file, and what its server says of it."""
        retrying = Retrying(
            retry=retry_if_exception_type((ImageUnavailable, LabelStudioBusy)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(multiplier=0.3, max=3),
            reraise=True,
        )

        def take(answer: httpx.Response) -> tuple[bytes, httpx.Headers]:
            return self._read(answer, task_id), answer.headers

        return retrying(self._ask, uri, task_id, take)

    def _is_replaced(self, path: Path, etag: Etag | None, uri: str, task_id: int) -> bool:
        """Whether the server has another image there than the cached one, as cameras use their names again.

        Asked now and then where the server names its images; one that gives no answer is not asked again.
        """
        if etag is None or not etag.is_due or not self._asks_again:
            return False
        name = etag.name

        def take(answer: httpx.Response) -> bool:
            return answer.status_code == 200 and answer.headers.get("ETag", name) != name

        try:
            is_another = self._ask(uri, task_id, take, **{"If-None-Match": name})
        except (BadImage, LabelStudioBusy, WrongToken) as err:
            logger.warning("the cached image of task %d is used, whether or not it is still the same: %s", task_id, err)
            self._asks_again = is_another = False
        write_etag(path, name)
        return is_another

    def _ask(self, uri: str, task_id: int, take: Callable[[httpx.Response], Taken], **headers: str) -> Taken:
        """What `take` takes from the answer, its body not read yet; redirects are followed."""
        first = url = _address(self.addresses.of_image(uri, task_id), task_id)
        for _ in range(MAX_REDIRECTS + 1):
            own = self.addresses.own(str(url))
            is_first = (url.scheme, url.host, url.port) == (first.scheme, first.host, first.port)
            login = self.login if is_first else None
            try:
                asked = self._of_own(own, task_id, headers) if own else self._of_other(url, task_id, login, headers)
                with asked as response:
                    if not response.has_redirect_location:
                        return take(response)
                    url = _address(response.headers["location"], task_id, url)
            except BadImage as err:
                path = url.raw_path.decode().partition("?")[0]  # still quoted: what is told may reach a terminal
                if own or not OF_LABEL_STUDIO.search(path):
                    raise
                name = f"{url.scheme}://{url.netloc.decode()}{OF_LABEL_STUDIO.split(path)[0]}"
                raise type(err)(f"{err}; if that is Label Studio, set LABEL_STUDIO_PUBLIC_URL={name}") from err
        raise BadImage(
            f"the image of task {task_id} is redirected more than {MAX_REDIRECTS} times; use its final address"
        )

    @contextmanager
    def _of_own(self, url: str, task_id: int, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Label Studio's own answer to one request, its body not read yet; it alone sees the API key."""
        with open_http(url, timeout=READ_TIMEOUT_S) as http, _in_time(http, task_id):
            try:
                request = http.build_request("GET", url, headers=headers)
                response = http.send(request, stream=True, auth=self.client.auth)
            except httpx.RequestError as err:
                raise LabelStudioBusy(f"the image of task {task_id} could not be fetched: {why(err, url)}") from err
            with _closing(response, httpx.URL(url).host, task_id):
                if response.status_code == 401:
                    raise WrongToken(
                        f"Label Studio does not accept the API key for the image of task {task_id}; renew it"
                    )
                yield response

    @contextmanager
    def _of_other(
        self, url: httpx.URL, task_id: int, login: tuple[str, str] | None, headers: Mapping[str, str]
    ) -> Iterator[httpx.Response]:
        """Another server's answer to one request, its body not read yet."""
        with open_http(str(url), timeout=READ_TIMEOUT_S) as http, _in_time(http, task_id):
            request = http.build_request("GET", url, headers=headers)
            requests = pinned(request, self.settings.allowed_private_hosts, task_id)
            try:
                response = _send_first(http, requests)
                if response.status_code == 401 and login is not None:
                    response.close()  # unread, as httpx's own flow would not leave it: it may never end
                    response = _send_first(http, requests, httpx.BasicAuth(*login))
            except httpx.RequestError as err:
                raise ImageUnavailable(
                    f"{url.host} gave no answer for the image of task {task_id}: {why(err, str(url))}"
                ) from err
            with _closing(response, url.host, task_id):
                yield response

    def _embedded(self, uri: str, task_id: int) -> bytes:
        """The content of a `data:` address, within the limit of a file."""
        head, _, body = uri.partition(",")
        self._check_size(len(body) * 3 // 4, task_id)
        content = unquote_to_bytes(body)
        try:
            return base64.b64decode(content) if head.lower().rstrip().endswith(";base64") else content
        except binascii.Error as err:
            raise BadImage(f"the data: image of task {task_id} is not valid base64 ({err}); encode it anew") from err

    def _check_size(self, size: float, task_id: int) -> None:
        if size > self.settings.max_image_mb * 1e6:
            raise BadImage(
                f"the image of task {task_id} is larger than {self.settings.max_image_mb:g} MB; "
                "make it smaller or raise MAX_IMAGE_MB"
            )

    def _read(self, response: httpx.Response, task_id: int) -> bytes:
        if response.status_code != 200:
            kind = ImageUnavailable if response.status_code >= 500 or response.status_code == 429 else BadImage
            raise kind(
                f"the server answered {response.status_code} for the image of task {task_id}; check its address and, "
                f"for cloud storage, the project's storage settings{by_proxy(str(response.url))}"
            )
        packings = [name.lower() for name in response.headers.get_list("content-encoding", split_commas=True)]
        if len(packings) > 1 or PACKED_TOO_WELL.intersection(packings):
            raise BadImage(
                f"the image of task {task_id} comes packed as {', '.join(packings)!r:.40}; "
                "have its server send it as it is"
            )
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            self._check_size(len(content), task_id)
        return bytes(content)

    def _decode(self, content: bytes, task_id: int) -> np.ndarray:
        try:
            return decode_image(content, f"the image of task {task_id}", self.settings.max_image_megapixels)
        except BadImageFile as err:
            raise BadImage(str(err)) from err


def _checked(uri: str | None, task_id: int) -> str:
    """The address that a task's data hold, without the blanks around it; BadImage if they hold none."""
    bare = uri.strip(BLANKS) if isinstance(uri, str) else ""
    if not bare:
        raise BadImage(f"task {task_id} holds no image address, got {repr(uri)[:LONGEST_SHOWN]}; check its data")
    return bare


def _is_embedded(uri: str) -> bool:
    return uri[:5].lower() == "data:"


def _shown(uri: str) -> str:
    """An address as a log may hold it: without a password, and without what may be a signature."""
    path = uri.partition("?")[0]
    return re.sub("//[^/]*@", "//", uri if OF_LABEL_STUDIO.search(path) else path)[:LONGEST_SHOWN]


@contextmanager
def _in_time(http: httpx.Client, task_id: int) -> Iterator[None]:
    """Close the connections after FETCH_TIMEOUT_S: byte by byte an answer may never begin, or unpack to nothing."""
    is_over = Event()

    def end() -> None:
        is_over.set()
        http.close()

    timer = Timer(FETCH_TIMEOUT_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (ImageUnavailable, LabelStudioBusy, RuntimeError) as err:  # the last where a closed client is asked
        if not is_over.is_set():
            raise
        raise BadImage(
            f"the image of task {task_id} did not arrive within {FETCH_TIMEOUT_S:g} s; use a quicker server"
        ) from err
    finally:
        timer.cancel()


@contextmanager
def _closing(response: httpx.Response, host: str, task_id: int) -> Iterator[None]:
    """Close an answer in the end; what breaks off until then is the image's fault, as its server did answer."""
    try:
        yield
    except httpx.RequestError as err:
        raise ImageUnavailable(
            f"the image of task {task_id} broke off on its way from {host} ({type(err).__name__}); "
            "check that it opens in a browser"
        ) from err
    finally:
        response.close()


def _address(text: str, task_id: int, base: httpx.URL | None = None) -> httpx.URL:
    try:
        url = httpx.URL(text) if base is None else base.join(text)
        _ = url.host  # which is decoded only now, and may be no name
    except (httpx.InvalidURL, ValueError) as err:
        raise BadImage(f"the image of task {task_id} has no valid address ({err}); correct it in the task") from err
    return url


def _send_first(
    http: httpx.Client, requests: Sequence[httpx.Request], auth: httpx.Auth | None = None
) -> httpx.Response:
    """The answer to the first of several equal requests whose address takes a connection; its body is not read yet."""
    *others, last = requests
    for request in others:
        with suppress(httpx.ConnectError, httpx.ConnectTimeout):
            return http.send(request, stream=True, auth=auth)
    return http.send(last, stream=True, auth=auth)
