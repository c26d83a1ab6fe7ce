"""The fuzzers that need an app: bytes at its desk, and bytes on the links of its mobsters, from processes of this user.

Whatever is sent, the Kingpin and the mobsters stay who they are, others are served, and no memory is taken for good.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from hypothesis import strategies as st

import mob
from mob.errors import LinkError
from mob.rim.addresses import address_of
from mob.wire import messages as m
from mob.wire.frames import FrameDecoder, frame
from tests.attack.inputs import streams
from tests.patience import patient
from tests.running import Apps, RunningApp, wait_until

HELLO = frame(m.encode([m.Hello(m.PROTOCOL, os.getpid())]))
PATIENCE = patient(30.0)
GROWTH = 100 * 1024 * 1024
"""Bytes that a process may have taken after an attack more than before it."""
BACK = "def double(n: int) -> int:\n    return 2 * n\n\n\nasync def wait(n: int) -> int:\n    return n\n"

ORDERS = (m.EndApp, m.Scale, m.Reload, m.Restart, m.Upgrade)
"""What a client may ask for, and what then happens to the app: these are not sent."""


def is_harmless(stream: list[bytes]) -> bool:
    """Whether nothing in it is an order that the app would carry out."""
    decoder = FrameDecoder(2**28)
    with contextlib.suppress(LinkError):
        for piece in stream:
            for payload in decoder.feed(piece):
                if any(isinstance(message, ORDERS) for message in m.decode_up(payload)):
                    return False
    return True


desk = st.tuples(st.booleans(), streams("up").filter(is_harmless))
links = streams("peer")


class Target:
    """An app that is attacked."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self.client = app.wait_ready(2)
        self.pids = self._pids()
        self._sizes = {pid: psutil.Process(pid).memory_info().rss for pid in self.pids}
        self._count = 0

    def _pids(self) -> list[int]:
        return [self.app.process.pid, *(each.pid for each in self.app.ready(self.client, "back"))]

    def examine_desk(self, example: tuple[bool, list[bytes]]) -> None:
        """A connection to the desk, with or without a true hello before."""
        says_hello, pieces = example
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(PATIENCE), 0))
            sock.connect(address_of(self.app.name))  # waits for its turn, which a socket with a timeout does not
            with contextlib.suppress(ConnectionError):
                for piece in ([HELLO] if says_hello else []) + pieces:
                    sock.sendall(piece)
        self.look_now_and_then()

    def examine_links(self, pieces: list[bytes]) -> None:
        """A client of mob's that sends this to a worker after a call that has got its answer; another one is served.

        What the first one would send later may be taken for the rest of a frame that it has announced.
        """
        with mob.connect(self.app.name) as client:
            assert client.require("back").double(1).result(PATIENCE) == 2
            link = next(contact.link for contact in client._peer.contacts if contact.link is not None)
            for piece in pieces:
                with contextlib.suppress(OSError):
                    os.write(link._fd, piece)
        assert self.client.all("back").call.double(4).result(PATIENCE).keys() == set(self.pids[1:])
        self.look_now_and_then()

    def look_now_and_then(self) -> None:
        """It costs more than an input does."""
        self._count += 1
        if self._count % 50 == 0:
            self.look()

    def look(self) -> None:
        """The processes are the same, serve others, and have not grown."""
        with mob.connect(self.app.name) as other:
            assert other.all("back").call.double(4).result(PATIENCE).keys() == set(self.pids[1:])
            assert len(other.overview()) == 2
        assert self._pids() == self.pids, "a process of the app has ended"
        for pid, before in self._sizes.items():
            self._check_size(pid, before)

    def _check_size(self, pid: int, before: int) -> None:
        def is_small() -> bool:
            return psutil.Process(pid).memory_info().rss < before + GROWTH

        wait_until(is_small, f"pid {pid} has given back what it took", PATIENCE)


@contextlib.contextmanager
def target() -> Iterator[Target]:
    """An app of two workers in a directory of its own; at the end it has to stop in order."""
    with TemporaryDirectory(prefix="mob-attack-") as directory:
        apps = Apps(Path(directory))
        app = apps.start('.role("back", "./back.py", workers=2)', name=f"attack-{os.getpid()}", back=BACK)
        try:
            found = Target(app)
            yield found
            found.look()
            assert app.stop() == 0, app.output
        finally:
            app.end()


RUNNING: dict[str, tuple[st.SearchStrategy[Any], Callable[[Target], Callable[[Any], None]]]] = {
    "desk": (desk, lambda found: found.examine_desk),
    "links": (links, lambda found: found.examine_links),
}
