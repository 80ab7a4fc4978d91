"""YAML as people write settings: 1e-3 is a number there, and a name that is set twice is a mistake."""

from __future__ import annotations

import re
from typing import Any

import yaml

from model.written_out import WrittenOut

FLOAT = "tag:yaml.org,2002:float"
EXPONENT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
"""A number by YAML 1.2; by YAML 1.1, which PyYAML follows, `1e-3` and `1.5e3` are texts."""


class _Loader(WrittenOut, yaml.SafeLoader):
    """Plain data only."""

    yaml_implicit_resolvers = {  # noqa: RUF012, as PyYAML has it
        **yaml.SafeLoader.yaml_implicit_resolvers,
        **{
            first: [*yaml.SafeLoader.yaml_implicit_resolvers.get(first, []), (FLOAT, EXPONENT)]
            for first in "-+.0123456789"
        },
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML's, which takes the last of equal names without a word."""
        names = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for place, name in enumerate(names):
            if any(name.value == other.value for other in names[:place]):
                raise yaml.MarkedYAMLError(problem=f"{name.value!r} is set twice", problem_mark=name.start_mark)
        return super().construct_mapping(node, deep)


def parse_settings(content: bytes) -> Any:
    """What settings hold, plain data; yaml.YAMLError if they are no YAML or set a name twice."""
    return yaml.load(content, _Loader)
