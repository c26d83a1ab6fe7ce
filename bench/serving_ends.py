"""Requests that fail when workers end: reloads under load, and `kill -9`, with clients that repeat nothing.

Eight clients ask for the pid of a worker without a pause, on connections that they keep or on a new one for each
request. A request that was sent and not answered with 200 has failed, and so has a connection that was refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import mob
from bench.serving_servers import Server, Site, is_alive, serving, until

CLIENTS = 8
PATIENCE = 30.0
ASKED = 200
"""Answers that are waited for before and after each reload and each death."""


@dataclass
class Clients:
    """Who asks: which worker answered how often, and what failed how often."""

    port: int
    keeps: bool
    answers: Counter[int] = field(default_factory=Counter[int])
    failures: Counter[str] = field(default_factory=Counter[str])
    is_over: bool = False

    async def run(self) -> None:
        """Ask until it is over."""
        await asyncio.gather(*(self._ask_on() for _ in range(CLIENTS)))

    async def _ask_on(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self.is_over:
            try:
                async with asyncio.timeout(PATIENCE):
                    connection = connection or await asyncio.open_connection("127.0.0.1", self.port)
                    goes_on = await self._ask(*connection)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.failures[type(error).__name__] += 1
                goes_on = False
                await asyncio.sleep(0.005)  # it is refused at once: no storm
            if not goes_on and connection is not None:
                connection[1].close()
                connection = None
        if connection is not None:
            connection[1].close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Ask once; return whether the connection can be used again."""
        wish = b"" if self.keeps else b"Connection: close\r\n"
        writer.write(b"GET /pid HTTP/1.1\r\nHost: localhost\r\n" + wish + b"\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        status = head.split()[1].decode()
        if status == "200":
            self.answers[int(body)] += 1
        else:
            self.failures[status] += 1
        return self.keeps and b"connection: close" not in head


@contextlib.contextmanager
def asking(port: int, keeps: bool) -> Iterator[Clients]:
    """Clients that ask to the end of the block, in a thread of their own."""
    clients = Clients(port, keeps)
    thread = threading.Thread(target=lambda: asyncio.run(clients.run()))
    thread.start()
    try:
        yield clients
    finally:
        clients.is_over = True
        thread.join()


@dataclass
class Losses:
    """What one server has lost: failed requests at each reload and at each death, and all that were answered."""

    reloads: list[int] = field(default_factory=list[int])
    kills: list[int] = field(default_factory=list[int])
    answered: int = 0
    kinds: Counter[str] = field(default_factory=Counter[str])
    notes: list[str] = field(default_factory=list[str])


def losses_of(kind: str, keeps: bool, reloads: int, kills: int) -> Losses:
    """Reload a server so often under load, then kill a worker so often."""
    losses = Losses()
    with serving([kind], Site()) as servers:
        for server in servers.values():
            with asking(server.port, keeps) as clients:
                for number in range(reloads + kills):
                    _wait_for_answers(clients)
                    before = clients.failures.total()
                    is_reload = number < reloads
                    note = _reload(server, clients) if is_reload else _kill(server, clients)
                    losses.notes += [note] if note else []
                    _wait_for_answers(clients)
                    failed = clients.failures.total() - before
                    (losses.reloads if is_reload else losses.kills).append(failed)
            losses.answered += clients.answers.total()
            losses.kinds += clients.failures
    return losses


def _wait_for_answers(clients: Clients) -> None:
    so_far = clients.answers.total()
    until(lambda: clients.answers.total() > so_far + ASKED, PATIENCE)


def _alive(clients: Clients) -> set[int]:
    return {pid for pid in list(clients.answers) if is_alive(pid)}


def _reload(server: Server, clients: Clients) -> str:
    """Replace all workers; return what went otherwise."""
    old = _alive(clients)
    if server.app:
        with mob.connect(server.app) as client:
            client.reload("web")
    else:
        os.kill(server.process.pid, signal.SIGHUP)
    if not until(lambda: not any(map(is_alive, old)), PATIENCE):
        return f"the old workers were there {PATIENCE:.0f} s after the reload"
    return ""


def _kill(server: Server, clients: Clients) -> str:
    """Kill a worker that answers; return what went otherwise."""
    old = _alive(clients)
    os.kill(max(old, key=lambda pid: clients.answers[pid]), signal.SIGKILL)
    if not until(lambda: _pid_of_a_worker(server.port) not in {0, *old}, PATIENCE):
        return f"no new worker answered within {PATIENCE:.0f} s of the death"
    return ""


def _pid_of_a_worker(port: int) -> int:
    """Return who answers on a new connection, 0 if nobody does; connections that are kept may stay with old workers."""
    with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(f"http://127.0.0.1:{port}/pid") as answer:
        return int(answer.read())
    return 0
