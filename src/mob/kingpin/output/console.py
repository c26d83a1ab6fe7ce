"""The output of mobsters: read from their pipes as whole lines, and passed to the writer and to followers.

Every mobster has a pipe for stdout and one for stderr. A line is passed on when it is complete; what is left when a
mobster exits becomes a line of its own. A line that stays unfinished for a moment is shown as it is, by the writer
only. Nothing here waits, so bursts are read as fast as they come and block no mobster: what the writer cannot take is
dropped there, what a follower cannot take is dropped here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from time import monotonic

import msgspec

from mob.kingpin.output.followers import Followers, FollowerState
from mob.kingpin.output.lines import COLORS, Origin, OutputChunk
from mob.kingpin.output.pipes import Pipe, PipeState
from mob.kingpin.output.writer import LineSource, Sink, Writer, sink_of, word
from mob.plan import Logs
from mob.rim import standard
from mob.rim.link import Link
from mob.rim.reactor import Reactor

READ_SIZE = 256 * 1024
SMALL_READ_SIZE = 4096
"""Bytes of one read where memory for more cannot be allocated; Python can serve so few from its own pools."""
PIPE_SIZE = 256 * 1024
"""Capacity of a pipe in bytes, so far a mobster may be ahead of the Kingpin; 64 KiB where the system gives no more."""
LARGE_PIPES = 64
"""Number of pipes that are made that large; together they use a quarter of what Linux allows a user."""
LAST_LINES = 50  # kept of each mobster, for the report of a crash
LAST_LENGTH = 16 * 1024  # maximum bytes of such a line
MOST_READS = 32  # of the pipe of an exited mobster; a process that left its group may still write to it


class ConsoleState(msgspec.Struct, frozen=True):
    """The output of mobsters as it is handed over to the next program."""

    pipes: list[PipeState]
    last_lines: dict[int, list[bytes]]
    """The last lines that each mobster printed."""
    recent: list[OutputChunk]
    dropped: int
    """Total number of lines that could not be written."""
    lost: list[tuple[LineSource, int]]
    """Lines of these whose loss was not reported yet, by source."""
    followers: list[FollowerState]


class Console:
    """The output of the app."""

    def __init__(
        self, reactor: Reactor, logs: Logs, frame_limit: int, sink: Sink | None = None, is_direct: bool = False
    ) -> None:
        self._reactor = reactor
        has_colors = standard.has_colors()
        self.color: bool = has_colors and logs.is_shown
        """True if the output of mobsters is shown on a terminal with colors."""
        self._is_direct = is_direct
        self._roles: dict[str, int] = {}
        self._sources: dict[int, list[Pipe]] = {}  # by the mobster's uid
        self._last: dict[int, deque[bytes]] = {}
        self._taken: dict[int, list[str]] = {}
        self._writer = Writer(sink or sink_of(logs, has_colors))
        self.followers: Followers = Followers(frame_limit)

    def __repr__(self) -> str:
        return f"<Console of {len(self._sources)} mobsters>"

    def pipes(self, uid: int, role: str, index: int) -> list[int]:
        """Return the writing ends of new pipes for stdout and stderr.

        Nothing is read before `begin`, which gives the pid. Where mobsters print directly, the pipes are copies of this
        process's own streams, and nothing is read at all.
        """
        if self._is_direct:
            return _own_streams()
        pairs = _two_pipes()
        ends: list[int] = []
        sources = self._sources[uid] = []
        for is_error, (r, w) in zip((False, True), pairs, strict=True):
            os.set_blocking(r, False)
            if sum(map(len, self._sources.values())) < LARGE_PIPES:
                _enlarge(w)
            sources.append(self._pipe(uid, r, Origin(role, index, 0, is_error, self._color_of(role))))
            ends.append(w)
        return ends

    def begin(self, uid: int, pid: int) -> None:
        """Begin to read the output of a mobster, which runs under this pid now."""
        for source in self._sources.get(uid, ()):
            if not source.origin.pid:
                self._watch(source, pid)

    def move(self, uid: int, index: int) -> None:
        """Show later output of a mobster under a new index; earlier output keeps the old one."""
        self.drain(uid)
        for source in self._sources.get(uid, ()):
            source.origin = msgspec.structs.replace(source.origin, index=index)

    def drain(self, uid: int) -> None:
        """Pass on the last output of an exited mobster, before a message reports its exit."""
        for source in list(self._sources.get(uid, ())):
            for _ in range(MOST_READS):
                if not self._read(source):
                    break

    def take_last_lines(self, uid: int) -> tuple[str, ...]:
        """Return the last lines that a mobster printed on both streams, and forget them."""
        self.drain(uid)
        return tuple(line.decode(errors="replace") for line in self._last.pop(uid, ()))

    @property
    def dropped(self) -> int:
        """Number of lines that could not be written because there were too many or the disk was full."""
        return self._writer.dropped

    def begin_taking(self, uid: int) -> None:
        """Keep what a mobster writes to stderr from now on, and do not show it, until `end_taking`."""
        self._taken[uid] = []

    def end_taking(self, uid: int) -> list[str]:
        """Return what the mobster wrote since `begin_taking`."""
        return self._taken.pop(uid, [])

    def say(self, text: str) -> None:
        """Show a message of the Kingpin."""
        chunk = word(text)
        self._writer.put(chunk)
        self.followers.handle_chunk(chunk)

    def tell(self, text: str) -> None:
        """Show news of the app; where mobsters print directly, only to clients that follow the log."""
        if not self._is_direct:
            self.say(text)
        else:
            self.followers.handle_chunk(word(text))

    def say_from_elsewhere(self, text: str) -> None:
        """Show a message from another thread than that of the loop, which may be blocked."""
        self._writer.put(word(text))

    def hold(self) -> None:
        """Stop writing to the terminal because another process uses it; output waits for `release`."""
        self._writer.hold()

    def release(self) -> None:
        """Resume writing to the terminal."""
        self._writer.release()

    def reopen(self) -> None:
        """Reopen the log file after it was moved away."""
        self._writer.reopen()

    def close(self) -> None:
        """Write what waits, and end."""
        for sources in list(self._sources.values()):
            for source in list(sources):
                self._read(source)
                self._end(source)
        self._writer.close()

    # -------------------------------------------------------------------------------------------- handover

    def state(self) -> ConsoleState:
        """Return the state for the next program, after waiting until all is written, for a second at most."""
        self._writer.settle()
        self._writer.wait_empty()
        dropped, lost = self._writer.losses()
        return ConsoleState(
            [pipe.state() for pipes in self._sources.values() for pipe in pipes],
            {uid: list(lines) for uid, lines in self._last.items()},
            self.followers.recent.chunks(),
            dropped,
            lost,
            self.followers.state(),
        )

    def take_over(self, state: ConsoleState, links: Mapping[int, Link]) -> None:
        """Resume after the previous program. `links` are those to the followers, by uid."""
        for each in state.pipes:
            origin = Origin(each.role, each.index, 0, each.is_error, self._color_of(each.role))
            pipe = self._pipe(each.uid, each.fd, origin)
            pipe.begun = each.line
            self._sources.setdefault(each.uid, []).append(pipe)
            if each.pid:
                self._watch(pipe, each.pid)
                self._await(pipe)
        self._last = {uid: deque(lines, LAST_LINES) for uid, lines in state.last_lines.items()}
        for chunk in state.recent:
            self.followers.recent.add(chunk)
        self._writer.take_over(state.dropped, state.lost)
        self.followers.take_over(state.followers, links)

    # --------------------------------------------------------------------------------------------- the pipes

    def _color_of(self, role: str) -> int:
        return COLORS[self._roles.setdefault(role, len(self._roles)) % len(COLORS)]

    def _pipe(self, uid: int, fd: int, origin: Origin) -> Pipe:
        return Pipe(uid, fd, origin, self._writer.is_live)

    def _watch(self, source: Pipe, pid: int) -> None:
        source.origin = msgspec.structs.replace(source.origin, pid=pid)
        self._reactor.watch(source.fd, partial(self._handle_readable, source))

    def _handle_readable(self, source: Pipe) -> None:
        self._read(source)

    def _read(self, source: Pipe) -> bool:
        """Pass on what can be read; return True if there was anything."""
        try:
            try:
                data = os.read(source.fd, READ_SIZE)
            except MemoryError:
                data = os.read(source.fd, SMALL_READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._end(source)
        else:
            before = source.shown
            if lines := source.feed(data, monotonic()):
                self._pass_on(source, lines, before)
            self._await(source)
        return bool(data)

    def _await(self, source: Pipe) -> None:
        """Schedule that an unfinished line is shown if its end does not come."""
        if source.has_news and not source.is_awaited:
            source.is_awaited = True
            self._reactor.call_at(source.due, partial(self._show_begun, source))

    def _show_begun(self, source: Pipe) -> None:
        source.is_awaited = False
        if source not in self._sources.get(source.uid, ()):
            return
        self._read(source)  # the end of the line may be there
        if source.due > monotonic():
            self._await(source)
        elif source.has_news:
            source.note_shown(monotonic())
            self._put_begun(source)

    def _put_begun(self, source: Pipe) -> None:
        """Show an unfinished line; on a terminal, remove one that is empty now."""
        is_taken = source.origin.is_error and source.uid in self._taken
        if not is_taken and (source.shown or self._writer.is_live):
            self._writer.put(OutputChunk(time.time(), source.origin, source.shown + b"\n", 1, is_partial=True))

    def _pass_on(self, source: Pipe, lines: bytes, shown: bytes) -> None:
        """Pass on lines. The first may be `shown` already; where it cannot be rewritten, only its rest is written."""
        taken = self._taken.get(source.uid)
        if taken is not None and source.origin.is_error:
            taken += lines[:-1].decode(errors="replace").split("\n")
            return
        chunk = OutputChunk(time.time(), source.origin, lines, lines.count(b"\n"))
        latest = lines[:-1].rsplit(b"\n", LAST_LINES)[-LAST_LINES:]
        self._last.setdefault(source.uid, deque(maxlen=LAST_LINES)).extend(line[:LAST_LENGTH] for line in latest)
        self.followers.handle_chunk(chunk)
        if shown and not self._writer.is_live:
            first, _, others = lines.partition(b"\n")
            if first.rstrip(b"\r") == shown:
                chunk = msgspec.structs.replace(chunk, data=others, count=chunk.count - 1)
        if chunk.data:
            self._writer.put(chunk)

    def _end(self, source: Pipe) -> None:
        sources = self._sources.get(source.uid, [])
        if source in sources:
            sources.remove(source)
            if not sources:
                del self._sources[source.uid]
            if source.begun:
                self._pass_on(source, source.take_begun() + b"\n", source.shown)
            elif source.shown:
                source.note_shown(monotonic())
                self._put_begun(source)
            self._reactor.unwatch(source.fd)
            os.close(source.fd)


def _two_pipes() -> list[tuple[int, int]]:
    """Return two pipes. Raise `OSError` if both cannot be made."""
    first = os.pipe()
    try:
        return [first, os.pipe()]
    except OSError:
        for end in first:
            os.close(end)
        raise


def _own_streams() -> list[int]:
    """Return copies of this process's stdout and stderr. Raise `OSError` if both cannot be made."""
    first = os.dup(1)
    try:
        return [first, os.dup(2)]
    except OSError:
        os.close(first)
        raise


def _enlarge(pipe: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or this user has too many pipes
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
