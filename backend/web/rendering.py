"""From what there is to see of a project to HTML: the pages and the report, of the same templates."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from backend.care.overview import Overview
from backend.rounds.effort import ENOUGH
from backend.rounds.pictures import CONFUSED, INVENTED, MISSED, PROPOSED, RIGHT, Drawing, thumbnails
from backend.web import charts
from model.file_cache import cached_path, read_cached

HERE = Path(__file__).parent
REFRESH_S = 30
"""How often a page loads anew where the browser runs no script, while a round runs."""

SHOWN_VERSIONS = 8


def thumbnail_bytes(data_dir: Path, name: str) -> bytes | None:
    """A thumbnail (JPEG), None where it is no longer kept."""
    return read_cached(cached_path(thumbnails(data_dir), name))


def _minutes(seconds: float) -> str:
    """A time to wait, as people say it."""
    return "less than a minute" if seconds < 60 else f"about {round(seconds / 60)} min"


def _number(value: float | None, digits: int = 2) -> str:
    return "not measured" if value is None else f"{value:.{digits}f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.0f} s" if value < 100 else f"{value / 60:.1f} min"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "not measured"


def _moment(moment: str | float) -> str:
    """A moment (ISO 8601 or Unix time) in UTC."""
    at = datetime.fromtimestamp(moment, timezone.utc) if isinstance(moment, float) else datetime.fromisoformat(moment)
    return at.astimezone(timezone.utc).strftime("%-d %b %Y, %H:%M UTC")


def _path(rings: Sequence[Sequence[Sequence[float]]]) -> str:
    """Rings of points in percent as a path of SVG."""
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in ring) + "Z" for ring in rings)


def _contents(drawings: Sequence[Drawing]) -> str:
    """What is drawn on a picture, for those who do not see it."""
    counts = Counter(f"{one.label}" if one.kind == PROPOSED else f"{one.kind} {one.label}" for one in drawings)
    return ", ".join(f"{count} {what}" for what, count in counts.items()) or "nothing is outlined"


def _code(text: str) -> Markup:
    """A text whose commands stand between backticks, as HTML."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "minutes": _minutes,
        "number": _number,
        "seconds": _seconds,
        "moment": _moment,
        "path": _path,
        "contents": _contents,
        "code": _code,
    }
    environment.globals |= {
        "share": _share,
        "heat": charts.heat,
        "spark": charts.spark,
        "learning_curve": charts.learning_curve,
        "state_of": charts.state_of,
        "chart": {name: getattr(charts, name) for name in ("WIDTH", "HEIGHT", "LEFT", "RIGHT", "TOP", "BOTTOM")},
        "spark_size": (charts.SPARK_WIDTH, charts.SPARK_HEIGHT),
        "kinds": {"right": RIGHT, "missed": MISSED, "invented": INVENTED, "confused": CONFUSED, "proposed": PROPOSED},
        "enough": ENOUGH,
        "shown_versions": SHOWN_VERSIONS,
        "refresh_s": REFRESH_S,
    }
    return environment


@dataclass(frozen=True)
class Renderer:
    """Fills the templates; made once."""

    environment: Environment

    @classmethod
    def make(cls) -> Renderer:
        """One that reads the templates of this package; every value is escaped."""
        return cls(_environment())

    def page(self, template: str, **values: Any) -> str:
        """One template with its values."""
        return self.environment.get_template(template).render(**values)

    def project(self, seen: Overview, **values: Any) -> str:
        """The page of a project; `values` are what the template wants beside the overview."""
        return self.page("project.html", **self._drawn(seen), thumbnail=_address, **values)

    def report(self, seen: Overview, data_dir: Path, now: float) -> str:
        """The same as one file that needs nothing else, without buttons and without addresses of Label Studio."""
        css = (HERE / "static" / "page.css").read_text()
        image: Callable[[str], str | None] = lambda name: _embedded(data_dir, name)  # noqa: E731
        return self.page("report.html", **self._drawn(seen), thumbnail=image, css=css, made_at=now)

    def _drawn(self, seen: Overview) -> dict[str, Any]:
        return {
            "seen": seen,
            "curve": charts.learning_curve(seen.history, seen.served),
            "histogram": charts.histogram(seen.certainties),
        }


def _address(name: str) -> str | None:
    return f"thumbnails/{name}.jpg"


def _embedded(data_dir: Path, name: str) -> str | None:
    """An image as part of the page; None where its thumbnail is no longer kept."""
    content = thumbnail_bytes(data_dir, name)
    return None if content is None else f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
