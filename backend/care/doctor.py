"""`maskal doctor`: every link between Label Studio and this backend, checked in turn, each with its mend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from backend.care import link_checks, project_checks, queue_checks
from backend.care.case import FAILED, OK, SKIPPED, WARNING, Case, Doubt, Finding
from backend.errors import BackendError
from backend.settings import Settings
from model.errors import ModelError


def examine(settings: Settings, project_id: int, without: Collection[str] = ()) -> Iterator[Finding]:
    """Make all checks of CHECKS in order, `without` some; those that need a broken link are skipped.

    No other check may need one that is left out.
    """
    case = Case(settings, project_id)
    for name, needed, check in CHECKS:
        if name in without:
            continue
        broken = [other for other in needed if case.done[other].state in (FAILED, SKIPPED)]
        finding = Finding(name, SKIPPED, f"needs {', '.join(broken)}") if broken else _make(name, check, case)
        case.done[name] = finding
        yield finding


def _make(name: str, check: Callable[[Case], str], case: Case) -> Finding:
    try:
        return Finding(name, OK, check(case))
    except Doubt as err:
        return Finding(name, WARNING, str(err))
    except (BackendError, ModelError) as err:
        return Finding(name, FAILED, str(err))


CHECKS: tuple[tuple[str, tuple[str, ...], Callable[[Case], str]], ...] = (
    ("server", (), project_checks.server),
    ("token", ("server",), project_checks.token),
    ("project", ("token",), project_checks.project),
    ("public address", ("project",), project_checks.public_address),
    ("labelling config", ("project",), project_checks.label_config),
    ("connected", ("project",), link_checks.connected),
    ("ML backend", ("connected",), link_checks.registered),
    ("backend reachable", ("ML backend",), link_checks.reachable),
    ("backend state", ("backend reachable", "labelling config"), link_checks.backend),
    ("webhook switch", ("ML backend",), link_checks.webhook_switch),
    ("webhook", ("ML backend",), link_checks.webhook),
    ("redis", (), link_checks.redis),
    ("webhook delivery", ("webhook", "webhook switch", "backend reachable", "redis"), link_checks.delivery),
    ("version", ("connected",), queue_checks.version),
    ("sampling", ("project",), queue_checks.sampling),
    ("overlap", ("project",), queue_checks.overlap),
    ("pre-labels", ("project",), queue_checks.pre_labels),
    ("tab", ("connected",), queue_checks.tab),
    ("scores", ("connected",), queue_checks.scores),
    ("annotations", ("labelling config", "connected"), project_checks.learnable),
    ("image", ("labelling config",), project_checks.image),
    ("worker", ("redis",), link_checks.workers),
    ("device", ("connected",), link_checks.device),
)
"""Each check's name, those that must have passed before it, and what it does."""
