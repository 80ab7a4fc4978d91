"""The line of a project's labelling instruction that leads to its page; all else in it is the project's own."""

from __future__ import annotations

import html
import re

MARK = "maskal-page"
"""Class of our line: Label Studio takes comments out of an instruction, and leaves this."""

LINE = re.compile(rf'\n?<p class="{MARK}">.*?</p>', re.DOTALL)
TEXT = "What the model has learned, and what comes next"


def with_link(instruction: str, address: str) -> str:
    """The instruction with our line, which leads to that address: in place of an older one, else at the end."""
    line = f'<p class="{MARK}"><a href="{html.escape(address)}">{TEXT}</a></p>'
    older = LINE.search(instruction)
    if older is None:
        return f"{instruction}\n{line}" if instruction else line
    begins_anew = "\n" if older[0].startswith("\n") else ""
    before, after = instruction[: older.start()], without_link(instruction[older.end() :])
    return f"{before}{begins_anew}{line}{after}"


def without_link(instruction: str) -> str:
    """The instruction as it was without our line."""
    return LINE.sub("", instruction)
