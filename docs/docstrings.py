"""Docstrings as the site shows them: examples (`>>>`) become blocks of code, without the directives of doctest."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

DIRECTIVE = re.compile(r" *# doctest: .*$", re.MULTILINE)
EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1.*\S.*)*", re.MULTILINE)
PAGE = re.compile(r"docs/([\w-]+)\.md")
TREE = re.compile(r"^    MobError\n(?:    .+\n)+", re.MULTILINE)


class Examples(Extension):
    """Rewrites each docstring when it has been read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Once for each object."""
        if obj.docstring is not None:
            text = DIRECTIVE.sub("", obj.docstring.value)
            text = EXAMPLE.sub(lambda example: f"{example[1]}```pycon\n{example[0]}\n{example[1]}```", text)
            obj.docstring.value = PAGE.sub(r"[\1](../\1.md)", text)
