"""One request of a WSGI application: what the thread posts, and how a client that disconnects ends it."""

from __future__ import annotations

import asyncio
import io
from types import SimpleNamespace
from typing import Any

from mob.mobster.http.responding import Responding
from mob.mobster.http.writing import Response


class LeftAtOnce(Response):
    """A response whose client takes all that the thread writes, or nothing, and disconnects at the same moment."""

    def __init__(self, takes: bool) -> None:
        self.responding: Responding | None = None
        self._takes = takes
        connection = SimpleNamespace(on_response=None)
        super().__init__(SimpleNamespace(on_response=SimpleNamespace(__self__=connection)))

    def write_now(self, start: Any, body: bytes) -> None:
        """Stand for a write of the whole response; the loop notices the end of the connection before it is posted."""
        if self._takes:
            self._rest = b""
        assert self.responding is not None
        self.responding.leave()


def run(takes: bool) -> list[str]:
    """Let an application answer a client that disconnects at once; return how far the application came."""
    seen: list[str] = []

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "4")])
        try:
            yield b"done"
            seen.append("tidied up")
        finally:
            seen.append("closed")

    environ = {"wsgi.input": io.BytesIO(), "REQUEST_METHOD": "GET"}
    loop = asyncio.new_event_loop()
    answer = LeftAtOnce(takes)
    answer.responding = Responding(application, environ, answer, loop)
    answer.responding.run()
    loop.close()
    return seen


def test_a_visitor_who_has_got_the_whole_answer_and_leaves_interrupts_nothing() -> None:
    assert run(takes=True) == ["tidied up", "closed"]


def test_a_visitor_who_leaves_before_the_answer_ends_the_application_at_its_block() -> None:
    assert run(takes=False) == ["closed"]
