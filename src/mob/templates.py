"""Templates in the `env` of a role: `{"SHARD": "{index}/{workers}"}`.

Only a name in braces is a template, so JSON and `${HOME}` stay as they are; `{{index}}` stands for the text `{index}`.
The plan checks the names, and the Kingpin fills them in for each process that it launches. Floor 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mob.errors import PlanError, nearest

NAMES = ("app", "index", "node", "role", "workers")
"""Names that a template may contain."""
OF_A_PLACE = "index"
"""The name whose value differs between the workers of a role."""
OF_THE_SIZE = "workers"
"""The name whose value changes when the role is scaled."""
NAME = re.compile(r"(?<!\$)(?:\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\})", re.ASCII)


def check(role: str, env: Mapping[str, str]) -> None:
    """Raise `PlanError` if a template contains an unknown name."""
    for variable, text in env.items():
        for name in named(text):
            if name not in NAMES:
                raise PlanError(
                    f"role {role!r}: env={{{variable!r}: {text!r}}}: unknown name {{{name}}}. "
                    f"{nearest(name, NAMES)} For the text itself write {{{{{name}}}}}."
                )


def named(text: str) -> list[str]:
    """Return the names in a text.

    >>> named("{index}/{workers} of {{role}}"), named('{"level": 1}')
    (['index', 'workers'], [])
    """
    return [found[2] for found in NAME.finditer(text) if found[2]]


def mentions(env: Mapping[str, str], name: str) -> bool:
    """Return whether any of the variables contains this name."""
    return any(name in named(text) for text in env.values())


def filled(env: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with the names replaced by values.

    >>> filled({"SHARD": "{index}/{workers}", "RAW": "{{index}}"}, {"index": "2", "workers": "4"})
    {'SHARD': '2/4', 'RAW': '{index}'}
    """
    return {
        variable: NAME.sub(lambda found: values[found[2]] if found[2] else f"{{{found[1]}}}", text)
        for variable, text in env.items()
    }


def escaped(text: str) -> str:
    """Return a text in which names in braces are not replaced.

    >>> filled({"TOKEN": escaped("a{index}")}, {})
    {'TOKEN': 'a{index}'}
    """
    return NAME.sub(lambda found: f"{{{found[0]}}}", text)
