"""What a server says is wrong, as plain text: never its HTML."""

from __future__ import annotations

import html
import re

import httpx

LONGEST = 300
TAG = re.compile(r"<[!/a-zA-Z][^<>]*>")
PAGE_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def detail(response: httpx.Response) -> str:
    """What the server says is wrong, as short as it says it; of a web page only its title."""
    try:
        body = response.json()
    except ValueError:
        return page_in_words(response.text)
    told = (body.get("validation_errors") or body.get("detail")) if isinstance(body, dict) else body
    return plain(str(told or body))[:LONGEST]


def page_in_words(text: str) -> str:
    """A text, or that it is a web page and its title."""
    if not TAG.match(text.lstrip("\ufeff \r\n\t")):
        return plain(text)[:LONGEST] or "an empty answer"
    title = PAGE_TITLE.search(text)
    return f"a web page titled {plain(title[1])[:LONGEST]!r}" if title else "a web page"


def plain(text: str) -> str:
    """A text without tags, entities and line ends."""
    return " ".join(html.unescape(TAG.sub("", text)).split())


def refuses_password(told: str, address: str) -> bool:
    """Whether what Label Studio tells of the backend at an address is that it answered 401.

    Addresses, ports and the ids of objects in an error may hold that number, too.
    """
    return re.search(r"\b401\b", told.replace(address, "")) is not None
