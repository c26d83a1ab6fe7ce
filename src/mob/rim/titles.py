"""Process titles: what ps(1), top and pgrep show of the processes of an app, in one of two styles.

The Kingpin decides which (`style_of`) and passes it on to its processes in `MOB_TITLES`, so every process makes its own
title without being asked. The guardian has a title of its own (`rim/guardian`), which other guardians look for.
"""

from __future__ import annotations

import os
import re

import setproctitle

VARIABLE = "MOB_TITLES"
"""The environment variable that chooses the style. It overrides what the main script says."""
DEFAULT = "mob"
KINGPIN, FORK_SERVER, MOBSTER = "kingpin", "fork server", "mobster"
TEMPLATES = {
    DEFAULT: {
        KINGPIN: "{app} (kingpin)",
        FORK_SERVER: "{app} (fork server)",
        MOBSTER: "{app} - {role} (mobster)",
    },
    "plain": {
        KINGPIN: "{app}: supervisor",
        FORK_SERVER: "{app}: fork server",
        MOBSTER: "{app}: {label}",
    },
}
"""The titles of each style, by kind of process. `label` is the role and the index, as in "back.0"."""
SUPERVISORS = {DEFAULT: "Kingpin", "plain": "supervisor"}
"""What `mob ps` calls the Kingpin, by style."""


def style_of(wanted: str) -> str:
    """Return the style of an app whose main script wants this one, or none ("").

    An unknown style in the environment counts as the default: it must not keep an app from starting.
    """
    style = os.environ.get(VARIABLE) or wanted
    return style if style in TEMPLATES else DEFAULT


def title(style: str, kind: str, app: str, role: str = "", label: str = "") -> str:
    """Return the title of a process.

    >>> title("mob", MOBSTER, "shop", "back", "back.0"), title("plain", MOBSTER, "shop", "back", "back.0")
    ('shop - back (mobster)', 'shop: back.0')
    """
    return TEMPLATES[style][kind].format(app=app, role=role, label=label)


def app_of(text: str, *kinds: str) -> str:
    """Return the app of the process that has this title, in any style; "" if it is not a title of one of these kinds.

    >>> app_of("shop: back.0", MOBSTER), app_of("shop (kingpin)", KINGPIN), app_of("nginx: worker process", MOBSTER)
    ('shop', 'shop', '')
    """
    found = (re.fullmatch(_pattern(templates[kind]), text) for templates in TEMPLATES.values() for kind in kinds)
    return next((each["app"] for each in found if each), "")


def _pattern(template: str) -> str:
    name = r"[A-Za-z][\w.-]*"
    fields = {"app": f"(?P<app>{name})", "role": name, "label": rf"{name}\.(?:\d+|spare\d*)"}
    return "".join(fields.get(part, re.escape(part)) for part in re.split(r"\{(\w+)\}", template))


def set_title(kind: str, app: str, style: str | None = None, role: str = "", label: str = "") -> None:
    """Title this process. `style`: by default the one that the Kingpin passed on."""
    setproctitle.setproctitle(title(style_of("") if style is None else style, kind, app, role, label))
