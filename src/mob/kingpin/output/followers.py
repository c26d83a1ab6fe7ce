"""Clients that follow the output of mobsters (`mob logs`, the dashboard), and the latest lines for later ones.

The latest chunks are kept as they came, also of mobsters that exited; they are decoded only on request. A follower gets
lines as fast as its link takes them. The bytes that it did not take are bounded; beyond that it misses lines, and their
number precedes the next ones. While there are no followers, a chunk costs a look at an empty table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from mob.kingpin.output.lines import Origin, OutputChunk
from mob.rim.link import Link
from mob.wire import messages as m

RECENT_LINES = 2_000
RECENT_BYTES = 1024 * 1024
UNSENT = 1024 * 1024
"""Maximum unsent bytes of a follower."""
BATCH = 128 * 1024
"""Maximum bytes of one message; less if the app's frame_limit is small."""
FAREWELL = 0.2
"""Seconds to send the last lines when the app ends."""
PER_LINE = 64
"""Bytes of a line besides its text and its role."""


class Recent:
    """The latest lines of the app."""

    def __init__(self) -> None:
        self._chunks: deque[OutputChunk] = deque()
        self._lines = 0
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Recent {self._lines} lines>"

    def add(self, chunk: OutputChunk) -> None:
        """Keep a chunk, and forget the oldest ones beyond the limit."""
        chunks = self._chunks
        chunks.append(chunk)
        self._lines += chunk.count
        self._bytes += len(chunk.data)
        while len(chunks) > 1 and (self._lines - chunks[0].count >= RECENT_LINES or self._bytes > RECENT_BYTES):
            old = chunks.popleft()
            self._lines -= old.count
            self._bytes -= len(old.data)

    def lines(self, follow: m.Follow) -> list[m.Line]:
        """Return the last lines that a follower requested, oldest first."""
        found: deque[m.Line] = deque()
        for chunk in reversed(self._chunks):
            if len(found) >= follow.last:
                break
            if _is_wanted(follow, chunk.origin):
                missing = follow.last - len(found)
                found.extendleft(reversed(list(_lines(chunk))[-missing:]))
        return list(found)

    def chunks(self) -> list[OutputChunk]:
        """Return all chunks that are kept."""
        return list(self._chunks)


class FollowerState(msgspec.Struct, frozen=True, array_like=True):
    """A follower as it is handed over to the next program."""

    uid: int
    follow: m.Follow
    dropped: int


class Follower:
    """A client or mobster that gets the lines it requested."""

    def __init__(self, uid: int, link: Link, follow: m.Follow, batch: int, dropped: int = 0) -> None:
        self.uid = uid
        self.follow = follow
        self._link = link
        self._batch = batch
        self.dropped: int = dropped
        """Number of lines that it missed since the last report."""

    def __repr__(self) -> str:
        return f"<Follower {self.uid}, {self.dropped} lines behind>"

    def offer(self, chunk: OutputChunk, is_held: bool) -> None:
        """Send the lines of a chunk, or drop them."""
        if is_held or self._link.unsent_bytes > UNSENT:
            self.dropped += chunk.count
        else:
            self.send(_lines(chunk))

    def send(self, lines: Iterable[m.Line], is_end: bool = False) -> None:
        """Send lines, in messages of limited size."""
        batch: list[m.Line] = []
        size = 0
        for line in lines:
            length = len(line.text.encode()) + PER_LINE + len(line.role)
            if length > self._batch:
                line = _shortened(line, self._batch - PER_LINE - len(line.role))
                length = self._batch
            if size + length > self._batch:
                self._post(batch, is_end=False)
                batch, size = [], 0
            batch.append(line)
            size += length
        if batch or is_end:
            self._post(batch, is_end)

    def finish(self) -> None:
        """Send the number of missed lines if there are any, and end the link."""
        self._post([], is_end=True)
        self._link.close_after_flush(FAREWELL)

    def _post(self, lines: list[m.Line], is_end: bool) -> None:
        self._link.post(m.Lines(self.follow.id, tuple(lines), self.dropped, is_end))
        self._link.flush()  # in a frame of its own, whose length was calculated
        self.dropped = 0


class Followers:
    """The followers, and the latest lines."""

    def __init__(self, frame_limit: int) -> None:
        self.recent: Recent = Recent()
        self.is_held = False
        """True while nothing is sent, so that what was sent before is read; lines meanwhile count as missed."""
        self._batch = min(BATCH, frame_limit // 2)
        self._followers: dict[tuple[int, int], Follower] = {}  # by uid and the number of the request

    def __repr__(self) -> str:
        return f"<Followers {len(self._followers)}, {self.recent}>"

    def handle_chunk(self, chunk: OutputChunk) -> None:
        """Keep a chunk, and send it to the followers that requested it."""
        self.recent.add(chunk)
        if self._followers:
            for follower in list(self._followers.values()):
                if _is_wanted(follower.follow, chunk.origin):
                    follower.offer(chunk, self.is_held)

    def follow(self, uid: int, link: Link, follow: m.Follow) -> None:
        """Add a follower: send it the latest lines, and those that come."""
        follower = Follower(uid, link, follow, self._batch)
        follower.send(self.recent.lines(follow), is_end=not follow.goes_on)
        if follow.goes_on:
            self._followers[uid, follow.id] = follower

    def unfollow(self, uid: int, number: int) -> None:
        """Remove a follower."""
        self._followers.pop((uid, number), None)

    def forget(self, uid: int) -> None:
        """Drop what is kept for a client or mobster that left."""
        for key in [key for key in self._followers if key[0] == uid]:
            del self._followers[key]

    def handle_gone(self, pid: int) -> None:
        """Report the end to those who follow only this mobster: it will print nothing more."""
        for key, follower in list(self._followers.items()):
            if pid and follower.follow.pid == pid:
                del self._followers[key]
                follower.send((), is_end=True)

    def finish(self) -> None:
        """Flush and end the links to all followers."""
        for follower in list(self._followers.values()):
            follower.finish()

    def state(self) -> list[FollowerState]:
        """Return the state for the next program."""
        return [FollowerState(each.uid, each.follow, each.dropped) for each in self._followers.values()]

    def take_over(self, states: Iterable[FollowerState], links: Mapping[int, Link]) -> None:
        """Resume with the previous program's followers, as far as they have a link."""
        for each in states:
            if (link := links.get(each.uid)) is not None:
                self._followers[each.uid, each.follow.id] = Follower(
                    each.uid, link, each.follow, self._batch, each.dropped
                )


def _is_wanted(follow: m.Follow, origin: Origin) -> bool:
    if follow.role and (follow.role != origin.role or follow.index not in (-1, origin.index)):
        return False
    return not follow.pid or follow.pid == origin.pid


def _lines(chunk: OutputChunk) -> Iterator[m.Line]:
    origin = chunk.origin
    for line in chunk.data[:-1].split(b"\n"):
        yield m.Line(chunk.at, origin.role, origin.index, origin.pid, origin.is_error, line.decode(errors="replace"))


def _shortened(line: m.Line, length: int) -> m.Line:
    text = line.text.encode()[: max(0, length - 3)].decode(errors="ignore")
    return msgspec.structs.replace(line, text=text + "…")
