"""How the commands print: what they show of an app comes from others, so it goes through `core.printable`.

Everything prints with `echo` or on a `console`, except what owns the terminal: `mob top`, whose frames are cleaned in
`top/screen.py`, and the prompt of `mob shell`.
"""

from __future__ import annotations

import sys
from typing import IO, Any, cast

import click
from rich.console import Console

from mob.core.printable import printable


class Cleaned:
    """A stream that lets only text and colors through, if it is written to with `write`."""

    def __init__(self, is_error: bool = False) -> None:
        self._is_error = is_error

    def __repr__(self) -> str:
        return f"<Cleaned {'stderr' if self._is_error else 'stdout'}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def _stream(self) -> Any:
        return sys.stderr if self._is_error else sys.stdout

    def write(self, text: str) -> int:
        """Write text, cleaned."""
        self._stream.write(printable(text))
        return len(text)


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text, cleaned; colors only on a terminal."""
    click.echo(printable(text), err=err, nl=nl)


def console(**options: Any) -> Console:
    """Return a rich console on standard output that lets only text and colors through."""
    return Console(file=cast(IO[str], Cleaned()), **options)
