"""The lifespan part of ASGI: tells an application that it starts and ends.

The application runs as one task from before the first request to after the last one; it gets a startup and a shutdown
message, and answers when it is done. An application that does not support lifespans ends the task with an error before
it receives anything, and is served nevertheless. If it fails after it received a message, it is not served: something
that it needs is missing.
"""

from __future__ import annotations

import asyncio
from typing import Any

from mob.errors import MobError


class LifespanFailed(MobError):
    """The application reported that it cannot start, or did not end properly."""


class Lifespan:
    """One application's start and end. `mode`: "auto", "on" (it must support lifespans) or "off"."""

    def __init__(self, application: Any, mode: str) -> None:
        self.state: dict[str, Any] = {}
        """The state that the application sets; each request gets a copy."""
        self._application = application
        self._mode = mode
        self._task: asyncio.Task[Any] | None = None
        self._messages: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._has_received = False
        self._has_started = False
        self._answer: asyncio.Future[dict[str, Any]] | None = None

    def __repr__(self) -> str:
        return f"<Lifespan, {'under way' if self._task is not None else 'not there'}>"

    async def start(self) -> None:
        """Wait until the application is ready for requests. `LifespanFailed`, or what it raised."""
        if self._mode == "off":
            return
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.ensure_future(self._application(scope, self._receive, self._send))
        await self._notify("startup")
        self._has_started = True

    async def end(self) -> None:
        """Wait until the application has cleaned up, if it started. `LifespanFailed`, or what it raised."""
        if self._has_started and self._task is not None and not self._task.done():
            await self._notify("shutdown")

    def cancel(self) -> None:
        """Stop waiting for the application."""
        if self._task is not None:
            self._task.cancel()

    async def _notify(self, what: str) -> None:
        task = self._task
        assert task is not None
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._messages.put_nowait({"type": f"lifespan.{what}"})
        await asyncio.wait({answer, task}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            message = answer.result()
            if message["type"] == f"lifespan.{what}.failed":
                raise LifespanFailed(f"the application sent lifespan.{what}.failed: {message.get('message') or '-'}")
        elif task.cancelled():
            raise LifespanFailed(f"the application's lifespan was cancelled before it sent lifespan.{what}.complete")
        elif (error := task.exception()) is not None and (self._has_received or self._mode == "on"):
            raise error

    async def _receive(self) -> dict[str, str]:
        self._has_received = True
        return await self._messages.get()

    async def _send(self, message: dict[str, Any]) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(message)
