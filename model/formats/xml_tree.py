"""XML, read so that a hostile file can neither hang the reader nor open other files.

defusedxml (by a core developer of Python, no dependencies, in the environment already for Label Studio's SDK)
refuses entities, by which a few lines grow to gigabytes, and what lies outside of the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from defusedxml import ElementTree as SafeElementTree

from model.errors import BadRecord
from model.files import write_atomically

Element = ElementTree.Element
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def parse(path: Path) -> Element:
    """The root of an XML file; BadRecord if it is no XML or a hostile one, OSError if it cannot be opened."""
    try:
        return SafeElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError) as err:
        raise BadRecord(f"wanted XML, got something else ({err}); restore the file or delete it") from err


def text(element: Element, path: str) -> str:
    """The text of a child without blanks around it; "" where it or its text is missing."""
    return (element.findtext(path) or "").strip()


def add(parent: Element, tag: str, content: object = "") -> Element:
    """A new child with that text."""
    child = ElementTree.SubElement(parent, tag)
    child.text = str(content)
    return child


def write(root: Element, path: Path) -> None:
    """Write atomically, indented; BadRecord if a name holds a character that XML cannot."""
    ElementTree.indent(root)
    content = ElementTree.tostring(root, encoding="unicode")
    if found := NOT_XML.search(content):
        raise BadRecord(f"a name holds the character {found[0]!r}, which XML cannot hold ({path}); rename it")
    write_atomically(path, f'<?xml version="1.0" encoding="utf-8"?>\n{content}\n')
