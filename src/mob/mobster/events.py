"""Handlers: what the application wants to hear of.

`message` (an object that somebody sent), `start` (after the import, before ready: open pools and servers here),
`ready`, `stop` (the process is about to end), `join` and `leave` (another mobster). Handlers are `def` or `async def`;
those of one event are run in the order in which they were registered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mob.errors import nearest

F = TypeVar("F", bound=Callable[..., Any])
EVENTS = ("message", "start", "ready", "stop", "join", "leave")


class Handlers:
    """The registered handlers by event."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Callable[..., Any]]] = {event: [] for event in EVENTS}

    def __repr__(self) -> str:
        return f"<Handlers {', '.join(f'{n} of {event}' for event, n in self.counts().items() if n) or 'none'}>"

    def counts(self) -> dict[str, int]:
        """How many there are of each event."""
        return {event: len(handlers) for event, handlers in self._handlers.items()}

    def add(self, event: str, handler: F | None = None) -> Callable[[F], F]:
        """Registers a handler, now or (as a decorator) when it is given."""
        if event not in self._handlers:
            raise ValueError(f"there is no event {event!r}. {nearest(event, EVENTS)}")

        def register(handler: F) -> F:
            if not callable(handler):
                raise TypeError(f"the handler of {event!r} must be a function, not {handler!r}.")
            self._handlers[event].append(handler)
            return handler

        if handler is not None:
            register(handler)
        return register

    def of(self, event: str) -> tuple[Callable[..., Any], ...]:
        """The handlers of an event."""
        return tuple(self._handlers[event])
