"""A link: a Unix stream socket between two processes of an app, and the frames on it.

Posting appends to an outbox. Messages posted within one turn of the loop leave as one frame in one `send`, or in a few
frames if there are many, so that both ends work at the same time: of 100 simultaneous calls each then takes 4.0 us
instead of 6.5. Threads other than the loop's send at once, under the link's lock. What the socket does not take waits
in a backlog that the reactor works off. Reading takes many frames per system call and passes on the messages of each.

Descriptors travel next to the bytes (SCM_RIGHTS): `post_with` sends a message in its own frame with them, and the
receiver takes them (`take`) in the order of the messages. A process with too many open files does not get all of them;
the message that lacks some can see that, and later messages get their own. So `recvmsg` is used everywhere: it costs
0.7 us more than `recv`, but once per read and not per message, and a single way of reading is worth more.

A link does not know the meaning of messages. On end of file, an error or invalid data it closes itself and says why.
"""

from __future__ import annotations

import array
import contextlib
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Lock, get_ident
from time import monotonic
from typing import Any

from mob.errors import GarbageFrame, LinkError
from mob.rim.reactor import Reactor
from mob.wire.frames import HEADER, LARGE, FrameDecoder
from mob.wire.messages import encode, in_place_of

READ_SIZE = 64 * 1024  # larger costs more: a read allocates it, and beyond 128 KiB malloc asks the kernel each time
EARLY = 25  # number of messages that do not wait for the end of the turn
SPLIT = 1024 * 1024  # a batch with a longer frame is sent as one frame per message
DESCRIPTORS = 16  # maximum per message
ANCILLARY = socket.CMSG_SPACE(DESCRIPTORS * 4)
CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
TRUNCATED = int(socket.MSG_CTRUNC)  # an int because `&` with an enum member takes as long as reading a message
BUFFER = 256 * 1024  # requested socket buffer
LACKING = frozenset({errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM})
"""Errors after which sending may soon succeed: too many descriptors in transit, no memory."""
SEND_RETRY = 0.1
"""Seconds before the next attempt."""
MISSING = -1  # among received descriptors: from here on the kernel could not deliver all

Messages = list[Any]
CLOSED = "closed"
"""Reason of a link that ended normally: by `close`, or because the other end closed it."""


class Descriptor:
    """An open file descriptor that is closed with the last reference to this object."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def __repr__(self) -> str:
        return f"<Descriptor {self._number}>"

    def fileno(self) -> int:
        """Return its number."""
        return self._number

    def __del__(self) -> None:
        os.close(self._number)


class Link:
    """One end of a link."""

    __slots__ = (
        "_backlog",
        "_closed_why",
        "_decode",
        "_fd",
        "_frames",
        "_is_cut",
        "_is_reading",
        "_is_sending",
        "_is_short",
        "_lock",
        "_on_closed",
        "_on_messages",
        "_outbox",
        "_reactor",
        "_scheduled",
        "_sock",
        "descriptors",
        "is_stamped",
        "name",
        "on_drained",
        "unsent_bytes",
    )

    def __init__(
        self,
        sock: socket.socket,
        reactor: Reactor,
        decode: Callable[[Any], Messages],
        on_messages: Callable[[Link, Messages], None],
        on_closed: Callable[[Link, str], None],
        limit: int,
        name: str = "",
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._sock = sock
        self._fd = sock.fileno()
        self._reactor = reactor
        self._decode = decode
        self._on_messages = on_messages
        self._on_closed = on_closed
        self._frames = FrameDecoder(limit)
        self._outbox: list[Any] = []
        self._backlog: deque[tuple[memoryview, Sequence[Descriptor]]] = deque()
        self.unsent_bytes: int = 0
        """Bytes of the backlog that the socket has not taken yet because the other end is slower."""
        self._lock = Lock()
        self._scheduled = False
        self._is_reading = False  # True while messages were read and are not handled yet
        self._is_sending = False  # True while a batch is being sent, which may have left in part
        self._is_short = False  # True if the kernel lacked a resource at the last attempt to send
        self._is_cut = False  # True if the kernel takes nothing more; the end of the link is still to be read
        self._closed_why: str | None = None
        self.descriptors: deque[int] = deque()
        """Received descriptors that no message has taken yet."""
        self.name: str = name
        self.on_drained: Callable[[], None] = _nothing
        """Called when the other end has taken all of a backlog."""
        self.is_stamped: bool = False
        """True if each frame begins with the time at which it leaves, in monotonic seconds.

        The receiver may take long before it reads it.
        """

    def __repr__(self) -> str:
        state = "open" if self._closed_why is None else f"closed: {self._closed_why}"
        return f"<Link {self.name or self._fd}, {state}, {len(self._outbox)} to send>"

    @property
    def is_closed(self) -> bool:
        """True if nothing can be sent any more."""
        return self._closed_why is not None

    @property
    def limit(self) -> int:
        """Maximum bytes of a received frame; small until the other end has identified itself."""
        return self._frames.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._frames.limit = limit

    @property
    def fd(self) -> int:
        """The socket's descriptor."""
        return self._fd

    @property
    def is_quiet(self) -> bool:
        """True if no message is partly sent or received in either direction."""
        return not (self._outbox or self._backlog or self._frames.pending or self.descriptors)

    @property
    def can_be_handed_over(self) -> bool:
        """True if another program can continue with the socket.

        Only bytes may be unsent (`unsent_data`), because the other end does not read; the other program gets them.
        """
        is_heard = not (self._outbox or self._frames.pending or self.descriptors)
        return is_heard and not any(descriptors for _, descriptors in self._backlog)

    def unsent_data(self) -> bytes:
        """Return the bytes that the socket has not taken yet."""
        return b"".join(data for data, _ in self._backlog)

    def go_on_with(self, data: bytes) -> None:
        """Send the previous program's unsent bytes first, as soon as the loop runs."""
        self._keep_for_later(memoryview(data), ())
        self._reactor.watch_writable(self._fd, self.handle_writable)

    def start(self) -> None:
        """Begin to read; on the loop's thread."""
        self._reactor.watch(self._fd, self.handle_readable)

    def hold(self) -> None:
        """Stop reading for the time being, until the other end reads; on the loop's thread."""
        self._reactor.hold(self._fd)

    def let_go_on(self) -> None:
        """Resume reading after `hold`; on the loop's thread."""
        if self._closed_why is None and not self._reactor.is_watched(self._fd):
            self.start()

    # -------------------------------------------------------------------------------------------- sending

    def post(self, message: Any) -> None:
        """Send a message, in the order of posting; from any thread. On a closed link it stays in `unsent`."""
        self._outbox.append(message)
        if get_ident() == self._reactor.owner:
            if not self._scheduled:
                try:
                    self._scheduled = True
                    self._reactor.flush_soon(self)
                except BaseException:
                    self._scheduled = False  # the next post tries again
                    raise
            elif len(self._outbox) >= EARLY:
                self.flush()
        else:
            self.flush()

    def post_lazily(self, message: Any) -> None:
        """Send a message with the next one, or at most a millisecond later; on the loop's thread."""
        self._outbox.append(message)
        if not self._scheduled:
            self._reactor.flush_later(self)

    def post_with(self, message: Any, descriptors: Sequence[int | Descriptor]) -> None:
        """Send a message and descriptors; plain numbers are closed here once they are sent."""
        owned = [each if isinstance(each, Descriptor) else Descriptor(each) for each in descriptors]
        with self._lock:
            self._flush_locked()
            if self._closed_why is None:
                data = _framed([message])
                self._is_sending = False
                try:
                    self._send(data, owned)
                except BaseException:
                    if self._is_sending:
                        self._handle_torn([message])
                    raise

    def post_encoded(self, payload: bytes) -> None:
        """Send the payload of a frame that goes to several links, after what was posted. A closed link drops it."""
        with self._lock:
            self._flush_locked()
            if self._closed_why is None and not self._is_cut:
                self._send_payload(payload)

    def flush(self) -> None:
        """Send what was posted."""
        with self._lock:
            self._flush_locked()

    def post_now(self, message: Any) -> bool:
        """Send a message after what was posted, from any thread.

        Return True if the kernel has taken all of it: then it arrives even if this process is killed.
        """
        with self._lock:
            self._outbox.append(message)
            self._flush_locked()
            return not self._backlog and not self._is_cut and self._closed_why is None

    def unsent(self) -> Messages:
        """Return the messages that never left; for a closed link."""
        return self._outbox[:]

    def _flush_locked(self) -> None:
        self._scheduled = False  # first, so that later posts schedule a flush again
        if self._closed_why is not None or self._is_cut:
            return
        outbox = self._outbox
        batch = outbox[:]
        if not batch:
            return
        self._is_sending = False
        try:
            payload = self._encode(batch)
            del outbox[: len(batch)]  # after encoding, which showed that the stack has room for the handler below
            if payload is None:  # one of the messages cannot be encoded: send the others
                batch = self._encodable(batch)
                payload = encode(self._stamped(batch))
            if len(payload) <= SPLIT or len(batch) == 1:
                self._send_payload(payload)
                if self._is_cut:
                    outbox[:0] = batch  # nothing of it has left
                return
            for index, message in enumerate(batch):
                self._send_payload(encode(self._stamped([message])))
                if self._is_cut:
                    outbox[:0] = batch[index:]
                    break
        except BaseException:
            self._handle_torn(batch)
            raise

    def _handle_torn(self, batch: Messages) -> None:
        """Handle an exception that interrupted the sending of a batch.

        If nothing has left, send the batch with the next one. Otherwise it is unknown what has left, and nothing is
        sent twice: end the link, which ends each call on it.
        """
        if self._is_sending:
            self._is_cut = True
            self._reactor.call(partial(self.close, "an exception interrupted the sending of a frame"))
        elif not self._outbox or self._outbox[0] is not batch[0]:
            self._outbox[:0] = batch
        self._reactor.call(self.flush)

    def _encodable(self, batch: Messages) -> Messages:
        """Return the messages that can be encoded; log the others, which are bugs in mob.

        An answer among them is replaced by a failure, so that its call ends.
        """
        kept: Messages = []
        for message in batch:
            try:
                encode([message])
                kept.append(message)
            except Exception:
                logging.getLogger("mob").exception(
                    "dropped a message to %s that cannot be encoded: %.200r", self.name or "a link", message
                )
                substitute = in_place_of(message)
                if substitute is not None:
                    kept.append(substitute)
        return kept

    def _stamped(self, batch: Messages) -> Messages:
        return [monotonic(), *batch] if self.is_stamped else batch

    def _encode(self, batch: Messages) -> bytes | None:
        """Return the payload of a frame with these messages; None if one of them cannot be encoded."""
        try:
            stamped: Messages = [monotonic(), *batch] if self.is_stamped else batch
            return encode(stamped)
        except Exception:  # noqa: BLE001  logged by `_encodable`
            return None

    def _send_payload(self, payload: bytes) -> None:
        """Send the frame of a payload. A large payload is not copied; its header is sent before it."""
        head = HEADER.pack(len(payload))
        if len(payload) <= LARGE:
            self._send(head + payload, ())
        else:
            self._send(head, ())
            self._send(payload, ())

    def _send(self, data: bytes, descriptors: Sequence[Descriptor]) -> None:
        if not self._backlog:
            sent = self._try_to_send(data, descriptors)
            if sent == len(data):
                return
            if sent > 0:
                descriptors = ()
            self._keep_for_later(memoryview(data)[sent:], descriptors)
            if get_ident() == self._reactor.owner:
                self._wait_for_room()
            else:
                self._reactor.call(self._watch_backlog)
        else:
            self._keep_for_later(memoryview(data), descriptors)

    def _keep_for_later(self, data: memoryview, descriptors: Sequence[Descriptor]) -> None:
        self._is_sending = True
        self._backlog.append((data, descriptors))
        self.unsent_bytes += len(data)

    def _try_to_send(self, data: bytes | memoryview, descriptors: Sequence[Descriptor]) -> int:
        try:
            if not descriptors:
                self._is_sending = True  # here, where a nearly exhausted stack still has room for `_handle_torn`
                return self._sock.send(data)
            numbers = array.array("i", [each.fileno() for each in descriptors])
            self._is_sending = True
            return self._sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            self._is_cut = True
            return len(data)
        except OSError as error:
            if error.errno in LACKING:
                self._is_short = True
                return 0
            return len(data)  # the other end is closed; reading shows that, after the last messages

    def _wait_for_room(self) -> None:
        """Resume when the socket takes more; or after a pause, if it has room and the kernel lacks something else."""
        if self._is_short:
            self._is_short = False
            self._reactor.unwatch_writable(self._fd)
            self._reactor.call_at(monotonic() + SEND_RETRY, self._watch_backlog)
        else:
            self._reactor.watch_writable(self._fd, self.handle_writable)

    def _watch_backlog(self) -> None:
        if self._backlog and self._closed_why is None:
            self._reactor.watch_writable(self._fd, self.handle_writable)

    def handle_writable(self) -> None:
        """Send more of the backlog because the socket has room again."""
        with self._lock:
            while self._backlog:
                data, descriptors = self._backlog[0]
                sent = self._try_to_send(data, descriptors)
                self.unsent_bytes -= sent
                if sent < len(data):
                    self._backlog[0] = (data[sent:], () if sent else descriptors)
                    if self._is_short:
                        self._wait_for_room()
                    return
                self._backlog.popleft()
            self._reactor.unwatch_writable(self._fd)
        self.on_drained()

    # -------------------------------------------------------------------------------------------- reading

    def handle_readable(self) -> None:
        """Read and handle messages, or the end of the link. Exceptions of message handlers are raised afterwards."""
        self._is_reading = False
        try:
            try:
                received = self._receive()
            except BlockingIOError:
                return
            except LinkError as error:
                self.close(str(error))
                return
            except ConnectionError:
                self.close()  # it died with unread data of ours, which the kernel reports as a reset
                return
            except OSError as error:
                self.close(error.strerror or str(error))
                return
            if received is None:
                half = self._frames.pending
                self.close(f"the other end closed it in the middle of a frame ({half} bytes in)" if half else CLOSED)
                return
            raised: BaseException | None = None
            left = iter(received)
            while (error := self._handle_frames(left)) is not None:  # the other frames are still handled
                raised = error
            if raised is not None:
                raise raised
        except BaseException as error:
            if self._is_reading:  # what was read may be lost: all calls on this link end
                self.close(f"received data could not be handled: {type(error).__name__}: {error}")
            raise

    def _handle_frames(self, left: Iterator[Any]) -> BaseException | None:
        """Handle the remaining frames of one read; return the exception if there was one."""
        try:
            for payload in left:
                if self._closed_why is None:
                    self._on_messages(self, self._decode(payload))
        except LinkError as error:
            self.close(str(error))
        except BaseException as error:  # noqa: BLE001  raised once all frames are handled
            return error
        return None

    def _receive(self) -> Sequence[bytes | bytearray | memoryview] | None:
        """Return the payloads that one read completes, or None at the end of file."""
        room = self._frames.room()
        if room is None:
            self._is_reading = True
            data, ancillary, flags, _ = self._sock.recvmsg(READ_SIZE, ANCILLARY, CLOEXEC)
            count = len(data)
        else:
            data = b""
            with room:
                self._is_reading = True
                count, ancillary, flags, _ = self._sock.recvmsg_into([room], ANCILLARY, CLOEXEC)
        if ancillary or flags & TRUNCATED:
            self._keep(ancillary, flags)
        if not count:
            return None
        return self._frames.feed(data) if room is None else self._frames.fill(count)

    def drain(self) -> None:
        """Read what has arrived and no more; for a link whose other end is dead."""
        while self._closed_why is None:
            before = self._frames.pending
            if not self._has_input():
                return
            self.handle_readable()
            if self._frames.pending == before and not self._has_input():
                return

    def _has_input(self) -> bool:
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _keep(self, ancillary: list[tuple[int, int, bytes]], flags: int) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors = array.array("i")
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
                self.descriptors.extend(descriptors)
        if flags & TRUNCATED:
            self.descriptors.append(MISSING)
        if len(self.descriptors) > 4 * DESCRIPTORS:
            raise GarbageFrame(f"{len(self.descriptors)} descriptors arrived without messages that take them.")

    def take(self, count: int) -> list[int]:
        """Return the descriptors of a message that has `count` of them; fewer if this process did not get all."""
        taken: list[int] = []
        while len(taken) < count and self.descriptors:
            descriptor = self.descriptors.popleft()
            if descriptor == MISSING:
                break
            taken.append(descriptor)
        return taken

    # -------------------------------------------------------------------------------------------- closing

    def close(self, why: str = CLOSED) -> None:
        """End the link; `on_closed` is called once. What was posted and not sent is lost (see `unsent`)."""
        if self._closed_why is not None:
            return
        self._closed_why = why
        self._reactor.unwatch(self._fd)
        with self._lock:
            self._sock.close()
            self._drop_backlog()
        for descriptor in self.descriptors:
            if descriptor != MISSING:
                os.close(descriptor)
        self.descriptors.clear()
        self._on_closed(self, why)

    def cut(self) -> None:
        """Shut down both ends, as the death of a process would; from any thread. Each end notices when it reads."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def abandon(self, end: Callable[[], None]) -> None:
        """Close only this process's copy of the socket; for the child of a fork, to which the link does not belong.

        `end` is called if the child tries to send something anyway.
        """
        self._closed_why = CLOSED
        self._sock.close()
        self._outbox.clear()
        self._drop_backlog()
        self._on_closed = partial(_end_instead, end)
        self.__class__ = _Abandoned  # pyright: ignore[reportAttributeAccessIssue]  all other methods stay

    def close_after_flush(self, seconds: float) -> None:
        """Send what is left, wait at most that many seconds, and close. Blocks; for the end of a process."""
        with self._lock:
            self._flush_locked()
            if self._backlog:
                self._sock.settimeout(max(seconds, 0.001))
                try:
                    while self._backlog:
                        data, descriptors = self._backlog.popleft()
                        self._sock.sendall(data[self._try_to_send(data, descriptors) if descriptors else 0 :])
                except OSError:
                    pass  # dead or too slow: what is left is dropped with the link
        self.close()

    def _drop_backlog(self) -> None:
        self._backlog.clear()
        self.unsent_bytes = 0


def _nothing() -> None:
    pass


def _end_instead(end: Callable[[], None], link: Link, why: str) -> None:
    end()


class _Abandoned(Link):
    """The parent's link in the child of a fork."""

    __slots__ = ()

    def post(self, message: Any) -> None:
        self._on_closed(self, CLOSED)

    def post_lazily(self, message: Any) -> None:
        self._on_closed(self, CLOSED)

    def post_with(self, message: Any, descriptors: Sequence[int | Descriptor]) -> None:
        self._on_closed(self, CLOSED)

    def close_after_flush(self, seconds: float) -> None:
        self._on_closed(self, CLOSED)


def _framed(batch: Messages) -> bytes:
    payload = encode(batch)
    return HEADER.pack(len(payload)) + payload
