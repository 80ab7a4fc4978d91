"""From a task to its image: fetched with the task's rights, checked, cached, decoded."""

from __future__ import annotations

import hashlib
import io
import ipaddress
import logging
import socket
from pathlib import Path

import httpx
import numpy as np
from PIL import Image, ImageOps

from backend.client import LabelStudio
from backend.errors import BadImage, LabelStudioBusy
from backend.settings import Settings
from model.files import write_atomically

logger = logging.getLogger(__name__)

MAX_REDIRECTS = 5
FETCH_TIMEOUT_S = 60.0


class Images:
    """Images of one Label Studio server, kept in a cache on disk under `DATA_DIR/cache/images`."""

    def __init__(self, client: LabelStudio, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self.folder = settings.data_dir / "cache" / "images"
        Image.MAX_IMAGE_PIXELS = None  # the limit is ours, and a setting

    def load(self, uri: str | None, task_id: int) -> np.ndarray:
        """RGB uint8 (h, w, 3), turned as its EXIF orientation says; BadImage names the task and the reason."""
        return self._decode(self._content(uri, task_id), task_id)

    def _content(self, uri: str | None, task_id: int) -> bytes:
        name = hashlib.sha256(f"{self.client.url}\n{uri}".encode()).hexdigest()
        path = self.folder / name[:2] / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            content = self._fetch(uri, task_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
            return content

    def _fetch(self, uri: str | None, task_id: int) -> bytes:
        if not isinstance(uri, str) or not uri:
            raise BadImage(f"task {task_id} holds no image address, got {uri!r}; check its data")
        url = self.client.image_address(uri, task_id)
        with httpx.Client(timeout=FETCH_TIMEOUT_S, follow_redirects=False) as http:
            for _ in range(MAX_REDIRECTS):
                own = self.client.is_own(url)
                if not own:
                    self._check_public(url, task_id)
                try:
                    with http.stream("GET", url, auth=self.client.auth if own else None) as response:
                        if response.next_request is None:
                            return self._read(response, task_id)
                        url = str(response.next_request.url)
                except httpx.TransportError as err:
                    raise LabelStudioBusy(
                        f"the image of task {task_id} could not be fetched ({type(err).__name__})"
                    ) from err
        raise BadImage(
            f"the image of task {task_id} is redirected more than {MAX_REDIRECTS} times; use its final address"
        )

    def _read(self, response: httpx.Response, task_id: int) -> bytes:
        if response.status_code >= 500:
            raise LabelStudioBusy(f"the server answered {response.status_code} for the image of task {task_id}")
        if response.status_code != 200:
            raise BadImage(
                f"the server answered {response.status_code} for the image of task {task_id}; check its address"
            )
        limit = self.settings.max_image_mb * 1e6
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > limit:
                raise BadImage(
                    f"the image of task {task_id} is larger than {self.settings.max_image_mb:g} MB; "
                    "make it smaller or raise MAX_IMAGE_MB"
                )
        return bytes(content)

    def _check_public(self, url: str, task_id: int) -> None:
        parsed = httpx.URL(url)
        if parsed.scheme not in ("http", "https"):
            raise BadImage(f"the image of task {task_id} has a {parsed.scheme}: address; http(s) was wanted")
        if parsed.host in self.settings.allowed_private_hosts:
            return
        try:
            found = {info[4][0] for info in socket.getaddrinfo(parsed.host, parsed.port or 443)}
        except OSError as err:
            raise BadImage(f"the host {parsed.host} of task {task_id}'s image is not known; check the address") from err
        if not all(ipaddress.ip_address(address).is_global for address in found):
            raise BadImage(
                f"the image of task {task_id} lies on the private host {parsed.host}; "
                "add it to ALLOWED_PRIVATE_HOSTS if that is meant"
            )

    def _decode(self, content: bytes, task_id: int) -> np.ndarray:
        limit = self.settings.max_image_megapixels
        try:
            with Image.open(io.BytesIO(content)) as image:
                megapixels = image.width * image.height / 1e6
                if megapixels > limit:
                    raise BadImage(
                        f"the image of task {task_id} has {image.width} x {image.height} px, over the limit of "
                        f"{limit:g} megapixels; make it smaller or raise MAX_IMAGE_MEGAPIXELS"
                    )
                return np.array(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, SyntaxError, ValueError) as err:
            raise BadImage(f"the image of task {task_id} cannot be read ({err}); replace the file") from err


def trim_cache(folder: Path, limit_bytes: float) -> int:
    """Delete the files of the image cache that were written first until it fits; returns how many went."""
    files = sorted((p for p in folder.glob("*/*") if p.is_file()), key=lambda p: p.stat().st_mtime)
    size, removed = sum(p.stat().st_size for p in files), 0
    for path in files:
        if size <= limit_bytes:
            break
        size -= path.stat().st_size
        path.unlink(missing_ok=True)
        removed += 1
    return removed
