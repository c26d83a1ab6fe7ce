"""One request of a WSGI application, in its thread: the call, `start_response`, `write`, and the iterable (PEP 3333).

The output of the application is posted to the loop: blocks, the last block, a failure. The rules are:

* A block is posted when it is yielded. A list or a tuple is complete, so it is posted as one.
* The head goes with the first block that is not empty; until then `start_response` may replace it.
* A response with a Content-Length is complete when that many bytes are there, and is posted as complete before the
  application cleans up. Bytes beyond that are cut off; if bytes are missing the connection is closed.
* A thread with more than `AHEAD` bytes under way waits until the client has read some, or has disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from contextvars import copy_context
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple, cast

from mob.mobster.http.headers import Headers, headers_of, status_of
from mob.mobster.http.sending import BLOCK, FileWrapper, part_to_send, send_file
from mob.mobster.http.writing import NO_BODY, Response
from mob.rim.places import PACKAGE

AHEAD = 256 * 1024
"""Maximum number of bytes of a response that may be under way before its thread waits."""
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class ClientDisconnected(ConnectionAbortedError):
    """Ends a response that no client reads any longer; `write` raises it."""


class Posted(NamedTuple):
    """What was posted since the last look."""

    body: bytes
    is_last: bool
    has_failed: bool
    """True if the response cannot be finished; if its head was not sent yet, an error replaces it."""
    wants_socket: bool
    """True if the thread waits for the socket, to send a file."""


def application_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of mob at its beginning and its end."""
    entries: list[TracebackType] = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    own = [each.tb_frame.f_code.co_filename.startswith(PACKAGE) for each in entries]
    if False not in own:
        return None
    first, last = own.index(False), len(own) - own[::-1].index(False)
    shown: TracebackType | None = None
    for each in reversed(entries[first:last]):
        shown = TracebackType(shown, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return shown


class Responding:
    """One request and its response. `run` is called in the thread, all other public methods on the loop."""

    def __init__(
        self, application: Any, environ: dict[str, Any], answer: Response, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._application = application
        self._answer = answer
        self._environ = environ
        self._input = environ["wsgi.input"]  # the application may replace it in the environ
        self._context = copy_context()
        self._method: str = environ["REQUEST_METHOD"]
        self._loop = loop
        self._future: asyncio.Future[None] | None = None  # with it the loop waits for news
        # The head, and how much of the body was written.
        self._status = 0
        self._reason = b""
        self._headers: Headers = []
        self._length: int | None = None
        self._sent = 0
        self.sent_by_kernel: int = 0
        """Bytes of the body that the kernel sent directly."""
        self._is_empty = False  # the response has no body
        self.is_posted: bool = False
        """True if the head was posted and can no longer be replaced."""
        self._is_too_long = False
        # Shared by the thread and the loop, under the lock.
        self._lock = Lock()
        self._blocks: list[bytes] = []
        self._on_way = 0  # bytes that the client has not received yet
        self._is_notified = False  # the loop knows that something was posted
        self._is_last = False
        self._has_failed = False
        self._wants_socket = False
        self._socket: socket.socket | None = None
        self._gate: Lock | None = None  # the thread waits for it
        self.is_left: bool = False
        """True if no client reads the response any longer."""

    def __repr__(self) -> str:
        return f"<Responding to {self}>"

    def __str__(self) -> str:
        return f"{self._method} {self._environ.get('SCRIPT_NAME', '')}{self._environ.get('PATH_INFO', '')}"

    # -------------------------------------------------------------------------------------------------- on the loop

    async def news(self) -> None:
        """Wait until something was posted."""
        if not self._is_notified:
            future = self._future = self._loop.create_future()
            await future

    def take(self) -> Posted:
        """Return what was posted."""
        with self._lock:
            blocks, self._blocks = self._blocks, []
            self._is_notified = False
            wants, self._wants_socket = self._wants_socket, False
            body = blocks[0] if len(blocks) == 1 else b"".join(blocks)
            return Posted(body, self._is_last, self._has_failed, wants)

    def start(self) -> dict[str, Any]:
        """Return the start of the response as in ASGI, with the reason."""
        return {
            "type": "http.response.start",
            "status": self._status,
            "reason": self._reason,
            "headers": self._headers,
        }

    def have_left(self, count: int) -> None:
        """Note that `count` bytes were sent."""
        with self._lock:
            self._on_way -= count
            if self._on_way <= AHEAD and self._gate is not None:
                self._open_gate()

    def give_socket(self, sock: socket.socket | None) -> None:
        """Let the thread send its file on this socket; None if it must be sent in blocks."""
        with self._lock:
            self._socket = sock
            self._open_gate()
        if self.is_left:
            self.leave()

    def leave(self) -> None:
        """End the response at its next block, because no client reads it."""
        with self._lock:
            self.is_left = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            self._open_gate()

    def abandon(self) -> None:
        """Drop a request that no thread has begun."""
        self._release()
        self._end()

    def _release(self) -> None:
        self._answer.give_back()
        with contextlib.suppress(OSError):
            self._input.close()

    def _end(self) -> None:
        """Post that nothing more will come. From any thread."""
        with self._lock:
            self._is_last = True
            wake = self._is_to_wake()
        self._wake(wake)

    def _handle_news(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    # ------------------------------------------------------------------------------------------------ in the thread

    def run(self) -> None:
        """Call the application and post its output; raise nothing."""
        try:
            if not self.is_left:
                self._context.run(self._respond)
        finally:
            self._release()
            if not self._is_last:
                self._end()

    def _respond(self) -> None:
        try:
            result = self._application(self._environ, self._start_response)
            try:
                self._give(result)
            finally:
                if hasattr(result, "close"):
                    result.close()
        except ClientDisconnected:
            pass
        except BaseException as error:  # noqa: BLE001  also sys.exit(): the application must not end the thread
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Log an error once, with the frames of the application, and end the response with it."""
        exc_info = type(error), error, application_frames(error.__traceback__)
        logging.getLogger("mob").error("%s failed", self, exc_info=exc_info)
        self._post_failure()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        try:
            if exc_info is not None and self.is_posted:
                raise exc_info[1].with_traceback(exc_info[2])
            if exc_info is None and self._status:
                raise AssertionError("start_response was already called; it may be called again only with exc_info")
        finally:
            exc_info = None  # it refers to this frame
        number, reason = status_of(status)
        headers_, length = headers_of(headers, has_length=number != 204)
        self._status, self._reason, self._headers, self._length = number, reason, headers_, length
        self._is_empty = self._method == "HEAD" or number in NO_BODY
        return self._write

    def _give(self, result: Any) -> None:
        if isinstance(result, list | tuple):
            self._give_computed(cast(list[bytes], result))
            return
        if isinstance(result, bytes | str) or not hasattr(result, "__iter__"):
            shown = "None" if result is None else f"{type(result).__name__} object"
            raise TypeError(f"the application returned a {shown}; expected an iterable of bytes, such as [b'...']")
        if isinstance(result, FileWrapper) and self._give_file(result.filelike):
            self._finish()
            return
        is_single = hasattr(result, "__len__") and len(cast(Any, result)) == 1
        for block in result:
            if is_single:
                self._give_computed([block])
                is_single = False
            elif block or not isinstance(block, bytes):
                self._write(block)
            if self._is_too_long or (self._is_empty and block):
                break
        self._finish()

    def _give_computed(self, blocks: list[bytes] | tuple[bytes, ...]) -> None:
        """Post blocks that are all there: as one, or with a Content-Length if they are large."""
        for block in blocks:
            _check_block(block)
        total = sum(map(len, blocks))
        if len(blocks) > 1 and total <= BLOCK:
            blocks = [b"".join(blocks)]
        self._check_started()
        if not self.is_posted and not self._is_empty:
            self._declare(total)
        for block in blocks:
            if block and not self._is_too_long:
                self._write(block)
        self._finish()

    def _give_file(self, filelike: Any) -> bool:
        """Have the kernel send a file; return False if it must be sent in blocks."""
        self._check_started()
        part = None if self.is_posted or self._is_empty else part_to_send(filelike, self._length)
        if part is None:
            return self._is_empty
        descriptor, offset, count = part
        self._declare(count)
        if count <= BLOCK:  # copying costs less than the handover of the socket
            return False
        with self._lock:
            self._wants_socket = self.is_posted = True
            gate = self._new_gate()
            wake = self._is_to_wake()
        self._wake(wake)
        gate.acquire()
        if self._socket is None:
            self._check_read()
            return False
        try:
            self._sent = self.sent_by_kernel = send_file(self._socket, descriptor, offset, count)
        except OSError:
            raise ClientDisconnected from None
        finally:
            with self._lock:
                sock, self._socket = self._socket, None
            sock.close()
        return True

    def _write(self, block: bytes) -> None:
        """Post a block: `write` of PEP 3333, and yielded blocks."""
        self._check_started()
        _check_block(block)
        if not block or self._is_empty:
            return
        if self._length is not None:
            left = self._length - self._sent
            if len(block) > left:
                self._log_too_long()
                block = block[:left]
        self._sent += len(block)
        if not self._is_last:
            self._post(block, self._sent == self._length)

    def _finish(self) -> None:
        """Post the end, unless the last block was the end."""
        self._check_started()
        if self._is_last:
            return
        if self._is_empty or self._length is None or self._sent == self._length:
            self._post(b"", is_last=True)
            return
        text = "%s: the response has %d bytes, but its Content-Length is %d; the connection was closed"
        logging.getLogger("mob").error(text, self, self._sent, self._length)
        self.is_posted = True  # the head is right, and shows that bytes are missing
        self._post_failure()

    def _post(self, block: bytes, is_last: bool) -> None:
        if is_last and not self.is_posted and self._length == len(block) <= BLOCK and not self.is_left:
            self._answer.write_now(self.start(), block)
        self.is_posted = True
        with self._lock:
            if self.is_left and not self._answer.is_written:
                raise ClientDisconnected  # unless the whole response was written: then the client missed nothing
            self._blocks.append(block)
            self._on_way += len(block)
            self._is_last = is_last
            wake = self._is_to_wake()
        self._wake(wake)
        while self._on_way > AHEAD and not is_last:
            with self._lock:
                if self.is_left or self._on_way <= AHEAD:
                    break
                gate = self._new_gate()
            gate.acquire()
        if not is_last:
            self._check_read()

    def _post_failure(self) -> None:
        with self._lock:
            if self._is_last:
                return
            self._is_last = self._has_failed = True
            wake = self._is_to_wake()
        self._wake(wake)

    def _declare(self, length: int) -> None:
        """Set the Content-Length of the response, unless the application did."""
        self._check_started()
        if self._length is None:
            self._length = length
            self._headers.append((b"Content-Length", b"%d" % length))

    def _log_too_long(self) -> None:
        if not self._is_too_long:
            self._is_too_long = True
            text = "%s: the response is longer than its Content-Length of %d bytes; the rest was cut off"
            logging.getLogger("mob").error(text, self, self._length)

    def _check_started(self) -> None:
        if not self._status:
            raise AssertionError("the application returned a response without calling start_response")

    def _check_read(self) -> None:
        if self.is_left:
            raise ClientDisconnected

    # ---------------------------------------------------------------------------------------- with the lock, and after

    def _is_to_wake(self) -> bool:
        """Note that there is something new; return whether the loop must be woken for it."""
        was_notified, self._is_notified = self._is_notified, True
        return not was_notified

    def _wake(self, is_to_wake: bool) -> None:
        if is_to_wake:
            with contextlib.suppress(RuntimeError):  # the loop ended, and this thread is about to
                self._loop.call_soon_threadsafe(self._handle_news)

    def _new_gate(self) -> Lock:
        gate = self._gate = Lock()
        gate.acquire()
        return gate

    def _open_gate(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.release()


def _check_block(block: Any) -> None:
    if not isinstance(block, bytes):
        raise TypeError(f"a block of the response is a {type(block).__name__}; expected bytes")
