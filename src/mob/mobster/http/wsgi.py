"""Runs a WSGI application (PEP 3333) as an ASGI one, in threads.

A request takes one hop to a thread and one back. The loop reads its body to the end, so that a slow upload occupies no
thread: in memory up to a limit, and in a temporary file beyond that. A thread of the pool calls the application. A
short response goes back in one piece; the blocks of a long one pass one by one as they are yielded, and the thread
waits while too many bytes are under way.

When the client disconnects, a request that waits for a thread is not begun, and one that runs ends at its next block:
the iterable is closed and the thread is free. The number of waiting requests is limited; beyond that the response is a
503.

Limits: the temporary file is written on the loop. An application that computes and yields nothing is not interrupted.
"""

from __future__ import annotations

import asyncio
import io
import logging
import tempfile
from functools import partial
from typing import IO, Any

from mob.mobster.http.environ import environ_of, lasting
from mob.mobster.http.exchanges import ANSWER
from mob.mobster.http.pool import ThreadPool
from mob.mobster.http.requests import BROKEN_OFF, SENT_BY_KERNEL
from mob.mobster.http.responding import Responding
from mob.mobster.http.writing import Response, phrase_of

IN_MEMORY = 64 * 1024
"""Maximum bytes of a request body that are kept in memory."""
THREADS = 10
"""Number of requests that are answered at once if the role does not set `threads`."""
RETRY_AFTER = 1
"""Seconds after which a refused client may try again."""


class Adapter:
    """An ASGI application that runs a WSGI application in `threads` threads; `queue`: maximum waiting requests."""

    def __init__(self, application: Any, threads: int, queue: int, is_multiprocess: bool = True) -> None:
        self._application = application
        self._base = lasting(threads, is_multiprocess)
        self._log = logging.getLogger("mob")
        self._has_refused = False
        self.pool: ThreadPool = ThreadPool(threads, queue)

    def __repr__(self) -> str:
        return f"<Adapter, {self.pool}>"

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a thread. From any thread."""
        return self.pool.waiting

    async def __call__(self, scope: Any, receive: Any, send: Any) -> str | None:
        """Serve a request of the server; return its class if it gets no response because its client left."""
        if scope["type"] == "http":
            return await self._serve(scope, receive, send)
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        return None

    async def _serve(self, scope: Any, receive: Any, send: Any) -> str | None:
        answer: Response = scope[ANSWER]
        if self.pool.is_full:
            self._log_full()
            await send_text(send, 503, (b"Retry-After", b"%d" % RETRY_AFTER))
            return None
        body, length = (io.BytesIO(), 0) if answer.has_no_request_body else await _read(receive)
        if body is None:
            return BROKEN_OFF
        environ = environ_of(scope, body, length, self._base)
        responding = Responding(self._application, environ, answer, asyncio.get_running_loop())
        answer.lend()
        try:
            self.pool.submit(responding)
        except RuntimeError as error:
            responding.abandon()
            self._log.error("503: cannot start a thread for a request (%s)", error)
            await send_text(send, 503, (b"Retry-After", b"%d" % RETRY_AFTER))
            return None
        answer.on_lost = partial(self._leave, responding)
        try:
            return await _pass_on(responding, answer, send)
        except asyncio.CancelledError:
            self._leave(responding)
            raise

    def _leave(self, responding: Responding) -> None:
        responding.leave()
        if self.pool.withdraw(responding):
            responding.abandon()

    def _log_full(self) -> None:
        """Log that the queue is full: once, until it was empty."""
        if not self.pool.waiting:
            self._has_refused = False
        if not self._has_refused:
            self._has_refused = True
            text = "503: %d requests wait for one of %d threads (wsgi_queue=%d in serve_options, threads= of the role)"
            self._log.warning(text, self.pool.waiting, self.pool.size, self.pool.limit)

    async def _live(self, receive: Any, send: Any) -> None:
        """Handle the start and the end of the server; the threads end with it."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        self.pool.end(lambda: None if loop.is_closed() else loop.call_soon_threadsafe(_settle, ended))
        try:
            await ended
        except asyncio.CancelledError:
            left = ", ".join(str(each) for each in list(self.pool.running))
            self._log.error("requests still run in threads after the grace period, and end with them: %s", left)
            raise
        await send({"type": "lifespan.shutdown.complete"})


async def _read(receive: Any) -> tuple[IO[bytes] | None, int]:
    """Return the body of a request as a file, and its length; None if the client disconnects before its end."""
    file: IO[bytes] = io.BytesIO()
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            file.close()
            return None, length
        if part := message["body"]:
            length += len(part)
            if length > IN_MEMORY and isinstance(file, io.BytesIO):
                begun, file = file.getvalue(), tempfile.TemporaryFile()  # noqa: SIM115  the thread closes it
                file.write(begun)
            file.write(part)
        if not message["more_body"]:
            file.seek(0)
            return file, length


async def _pass_on(responding: Responding, answer: Response, send: Any) -> str | None:
    """Write what the thread posts, until it ends."""
    has_begun = False
    while True:
        await responding.news()
        part = responding.take()
        if (answer.is_lost or answer.must_end) and not (answer.is_written or responding.sent_by_kernel):
            responding.leave()
            if answer.is_lost:
                answer.handle_lost()  # the server notices it later, and would expect the rest of the response
        elif part.has_failed and not responding.is_posted:
            await send_text(send, 500)
        elif responding.is_posted:
            if not has_begun:
                has_begun = True
                await send(responding.start())
            if part.wants_socket:
                responding.give_socket(await answer.lend_socket())
            else:
                is_over = part.is_last and not part.has_failed
                message = {"type": "http.response.body", "body": part.body, "more_body": not is_over}
                await send({**message, SENT_BY_KERNEL: responding.sent_by_kernel} if part.is_last else message)
                responding.have_left(len(part.body))
            if part.has_failed:
                answer.break_off()
        if part.is_last:
            return None if has_begun or part.has_failed else BROKEN_OFF


async def send_text(send: Any, status: int, *headers: tuple[bytes, bytes]) -> None:
    """Respond with the reason of a status, and close the connection."""
    text = phrase_of(status)
    plain = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Content-Length", b"%d" % len(text))]
    all_headers = [*plain, (b"Connection", b"close"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": text})


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
