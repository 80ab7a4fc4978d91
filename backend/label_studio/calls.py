"""One call to Label Studio: signed with either kind of key, tried again where that helps, its errors told apart."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from backend.errors import LabelStudioBusy, LabelStudioError, NotFound, WrongToken


class TokenAuth(httpx.Auth):
    """Both kinds of keys: legacy tokens as they are, personal access tokens exchanged for short-lived ones."""

    def __init__(self, url: str, api_key: str) -> None:
        self.refresh_url = f"{url}/api/token/refresh/"
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
        response = yield httpx.Request("POST", self.refresh_url, json={"refresh": self.api_key})
        response.read()  # not left to requires_response_body, which would also read all of an image before its limits
        if response.status_code != 200:
            raise WrongToken(
                "Label Studio does not accept the personal access token (expired, revoked or from another "
                "server); make a new one under Account & Settings and run `maskal connect` again"
            )
        self.access = response.json()["access"]


class Caller:
    """Calls one Label Studio server with one API key."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 30.0, attempts: int = 5) -> None:
        self.url = url.rstrip("/")
        self.auth = TokenAuth(self.url, api_key)
        self.http = httpx.Client(base_url=self.url, auth=self.auth, timeout=timeout_s, follow_redirects=False)
        self.attempts = attempts

    def request(self, method: str, path: str, *, retry: bool = True, **options: Any) -> Any:
        """One call; time-outs, refused connections and 5xx are tried again with back-off unless `retry` is off.

        Raises WrongToken (401, 403), NotFound (404), LabelStudioBusy (no answer, 5xx) or LabelStudioError.
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
            raise LabelStudioBusy(
                f"no answer from Label Studio at {self.url} ({type(err).__name__}); check that it runs and its address"
            ) from err
        if response.status_code in (401, 403):
            raise WrongToken(
                f"Label Studio at {self.url} refused {method} {path} with {response.status_code} "
                f"({_detail(response)}); check the API key (LABEL_STUDIO_API_KEY or `maskal connect --api-key`) and "
                "that its user may edit the project"
            )
        if response.status_code == 404:
            raise NotFound(f"Label Studio at {self.url} knows no {path}")
        if response.status_code >= 500:
            raise LabelStudioBusy(f"Label Studio answered {response.status_code} to {method} {path}")
        if response.status_code >= 300:
            raise LabelStudioError(
                f"Label Studio answered {response.status_code} to {method} {path}: {_detail(response)}"
            )
        return response.json() if response.content else None


def _detail(response: httpx.Response) -> str:
    """What the server says is wrong, as short as it says it."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:300]
    told = (body.get("validation_errors") or body.get("detail")) if isinstance(body, dict) else body
    return str(told or body)[:300]
