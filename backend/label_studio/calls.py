"""One call to Label Studio: signed with either kind of key, tried again where that helps, its errors told apart."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from backend.errors import LabelStudioBusy, LabelStudioError, NotFound, TooLarge, WrongToken
from backend.label_studio.answers import detail, page_in_words
from backend.label_studio.connections import by_proxy, open_http, why

UNDERSCORE = "it takes no host name with an underscore; give the container a name or alias without one"
"""Why Django refuses a call, to which it tells no reason itself."""


class TokenAuth(httpx.Auth):
    """Both kinds of keys: legacy tokens as they are, personal access tokens exchanged for short-lived ones."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url
        self.api_key = api_key
        self.access: str | None = None

    @property
    def is_personal(self) -> bool:
        """Whether the key is a personal access token (a JWT: three parts) and no legacy token."""
        return self.api_key.count(".") == 2

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign a request; a personal access token is exchanged again when the server no longer takes it."""
        if not self.is_personal:
            request.headers["Authorization"] = f"Token {self.api_key}"
            yield request
            return
        if self.access is None:
            yield from self._refresh()
        request.headers["Authorization"] = f"Bearer {self.access}"
        response = yield request
        if response.status_code == 401:
            yield from self._refresh()
            request.headers["Authorization"] = f"Bearer {self.access}"
            yield request

    def _refresh(self) -> Generator[httpx.Request, httpx.Response, None]:
        path = "/api/token/refresh/"
        response = yield httpx.Request("POST", f"{self.url}{path}", json={"refresh": self.api_key})
        response.read()  # not left to requires_response_body, which would also read all of an image before its limits
        if response.status_code in (400, 401, 403):
            raise WrongToken(
                "Label Studio does not accept the personal access token (expired, revoked or from another "
                "server); make a new one under Account & Settings and run `maskal connect` again"
            )
        self.access = _content(response, self.url, f"POST {path}")["access"]


class Caller:
    """Calls one Label Studio server with one API key."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 30.0, attempts: int = 5) -> None:
        self.url = url.rstrip("/")
        self.auth = TokenAuth(self.url, api_key)
        self.http = open_http(self.url, base_url=self.url, auth=self.auth, timeout=timeout_s)
        self.attempts = attempts

    def request(self, method: str, path: str, *, retry: bool = True, **options: Any) -> Any:
        """One call; time-outs, refused connections and 5xx are tried again with back-off unless `retry` is off.

        Raises WrongToken (401, 403), NotFound (404), TooLarge (413), LabelStudioBusy (no answer, 5xx) or
        LabelStudioError.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(LabelStudioBusy),
            stop=stop_after_attempt(self.attempts if retry else 1),
            wait=wait_exponential(multiplier=0.3, max=10),
            reraise=True,
        )
        return retrying(self._once, method, path, **options)

    def _once(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self.http.request(method, path, **options)
        except httpx.TransportError as err:
            raise LabelStudioBusy(f"no answer from Label Studio at {self.url}: {why(err, self.url)}") from err
        return _content(response, self.url, f"{method} {path}")


def _content(response: httpx.Response, url: str, call: str) -> Any:
    """What a server says in its answer, None if nothing; raises as `Caller.request` does."""
    if response.status_code >= 300:
        raise _refusal(response, url, call)
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as err:
        raise LabelStudioError(
            f"what answers {call} at {url} is no Label Studio, but {page_in_words(response.text)}; check the address"
            f"{by_proxy(url)}"
        ) from err


def _refusal(response: httpx.Response, url: str, call: str) -> LabelStudioError:
    """What a call that was not answered with a 2xx means."""
    status = response.status_code
    if status in (401, 403):
        return WrongToken(
            f"Label Studio at {url} refused {call} with {status} ({detail(response)}); check the API key "
            "(LABEL_STUDIO_API_KEY or `maskal connect --api-key`) and that its user may edit the project"
            f"{by_proxy(url)}"
        )
    if status == 404:
        return NotFound(f"Label Studio at {url} knows no {call.partition(' ')[2]}")
    if status == 413:
        size = response.request.headers.get("Content-Length", "unknown")
        return TooLarge(
            f"{call} with {size} bytes is too large for Label Studio at {url} or a proxy before it (413); raise the "
            "limit there (nginx: client_max_body_size)"
        )
    if status >= 500:
        return LabelStudioBusy(f"Label Studio answered {status} to {call}{by_proxy(url)}")
    if response.has_redirect_location:
        place = response.headers["Location"].partition("?")[0]
        return LabelStudioError(
            f"{url} leads {call} on to {place} ({status}); give the address that answers itself, and if that is a "
            "login page before Label Studio, let calls of its API pass there"
        )
    is_name_refused = status == 400 and "_" in response.request.url.host and not _is_json(response)
    name = f"; {UNDERSCORE}" if is_name_refused else ""
    return LabelStudioError(f"Label Studio answered {status} to {call}: {detail(response)}{name}{by_proxy(url)}")


def _is_json(response: httpx.Response) -> bool:
    return response.headers.get("Content-Type", "").startswith("application/json")
