"""YAML of strangers, in which nothing stands for a whole list: a few lines of lists of the same lists are gigabytes."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import Composer


class WrittenOut(Composer):
    """Before a loader of pyyaml's: an alias may stand for a text or a number, and for no list or mapping."""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """A node, as the loader asks for it; MarkedYAMLError, which names the line, for such an alias."""
        alias = self.peek_event() if self.check_event(yaml.AliasEvent) else None  # type: ignore[attr-defined]
        node: yaml.Node | None = super().compose_node(parent, index)
        if alias is not None and isinstance(node, yaml.CollectionNode):
            told = f"*{alias.anchor} is a list; write it out"
            raise yaml.MarkedYAMLError(problem=told, problem_mark=alias.start_mark)
        return node
