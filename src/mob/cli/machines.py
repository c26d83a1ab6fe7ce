"""Asks all machines of a cluster at the same time, or acts on them one by one.

A command connects to the app here; to ask the other machines it connects to their Kingpins (`Client.at`), each in a
thread of its own, so the time is that of the slowest and does not depend on their number. A machine that does not
answer costs only its own answer: the others are shown first, then the failures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from mob.cli.apps import FAILED, CommandError
from mob.cli.output import echo
from mob.client import CONNECT_TIMEOUT, Client
from mob.errors import MobError, UnknownTarget, nearest
from mob.peer.operating.machines import Machine, newcomers

T = TypeVar("T")
ALL = "all"
"""Value of `--node` that selects every machine."""
MOST = 32
"""Maximum number of machines that are asked at the same time."""


@dataclass(frozen=True)
class MachineReply(Generic[T]):
    """The answer of one machine."""

    machine: str
    """Name of the machine; empty if the app is not part of a cluster."""
    value: T | None
    problem: str = ""
    """Why there is no answer; empty if there is one."""


@contextmanager
def at(app: Client, machine: str) -> Generator[Client]:
    """Yield a client of that machine's Kingpin; for this machine, the client itself."""
    if machine == app.node:
        yield app
    else:
        with app.at(machine) as there:
            yield there


def chosen(app: Client, node: str | None) -> list[str]:
    """Return the selected machines, this one first: one, all, or this one. [""] if the app has no cluster."""
    if node is None:
        return [app.node]
    known = [machine.name for machine in app.nodes()]
    if node == ALL and ALL not in known:
        return known or [""]
    if node not in known:
        raise UnknownTarget(f"there is no machine {node!r} in the cluster of {app.app!r}. {nearest(node, known)}")
    return [node]


def ask(app: Client, machines: Sequence[str], question: Callable[[Client], T]) -> list[MachineReply[T]]:
    """Return the answers of the machines, in the given order."""
    if len(machines) == 1 and machines[0] == app.node:
        return [MachineReply(app.node, question(app))]  # a failure here is the command's own error
    with ThreadPoolExecutor(min(MOST, len(machines)), "mob-ask") as threads:
        asked = [threads.submit(_asked, app, machine, question) for machine in machines]
        return [each.result() for each in asked]


def _asked(app: Client, machine: str, question: Callable[[Client], T]) -> MachineReply[T]:
    try:
        with at(app, machine) as there:
            return MachineReply(machine, question(there))
    except TimeoutError:
        return MachineReply(machine, None, f"its Kingpin (supervisor) did not answer within {CONNECT_TIMEOUT:g} s.")
    except MobError as error:
        return MachineReply(machine, None, str(error))
    except CommandError as error:
        return MachineReply(machine, None, error.message)


class Everywhere:
    """A client of each machine, in a thread of its own, as long as the machine is part of the cluster."""

    def __init__(self, handle_end: Callable[[str, str], None]) -> None:
        self._handle_end = handle_end
        self.clients: dict[str, Client | None] = {}
        """Clients by machine; None while connecting."""

    def __repr__(self) -> str:
        return f"<Everywhere: {', '.join(sorted(self.clients))}>"

    def look(self, app: Client, found: Iterable[Machine], work: Callable[[Client], None]) -> None:
        """Start `work` on each new machine, in a thread.

        When it ends, `handle_end` gets the machine and the reason, in that thread; after that the machine counts as new
        again.
        """
        for machine in newcomers(found, self.clients):
            self.clients[machine] = None
            threading.Thread(target=self._work_at, args=(app, machine, work), name="mob-ask", daemon=True).start()

    def _work_at(self, app: Client, machine: str, work: Callable[[Client], None]) -> None:
        def begin(there: Client) -> None:
            self.clients[machine] = there
            work(there)

        answer = _asked(app, machine, begin)
        self.clients.pop(machine, None)
        self._handle_end(machine, answer.problem)


def in_turn(app: Client, machines: Sequence[str], act: Callable[[Client], str]) -> None:
    """Act on one machine after another and print the results; `CommandError` at the first that fails.

    The error lists the machines on which it was done, and those that were not tried.
    """
    if list(machines) == [app.node]:
        echo(label(app) + act(app))  # a failure here is the command's own error
        return
    for number, machine in enumerate(machines):
        answer = _asked(app, machine, act)
        if answer.problem:
            raise CommandError(f"{machine}: {answer.problem}{_so_far(machines, number)}")
        echo(f"{machine}: {answer.value}")


def label(app: Client) -> str:
    """Return the prefix of a line about a machine; empty if the app is not part of a cluster."""
    return f"{app.node}: " if app.node else ""


def _so_far(machines: Sequence[str], number: int) -> str:
    done, left = machines[:number], machines[number + 1 :]
    told = f"\nDone on: {', '.join(done)}." if done else ""
    return told + (f"\nNot tried on: {', '.join(left)}." if left else "")


def complain(app: Client, answers: Sequence[MachineReply[T]]) -> None:
    """Report on stderr which machines did not answer; exit status 1 if there are any."""
    if app.cut:
        echo(f"The other machines cannot be reached: {app.cut}", err=True)
    silent = [answer for answer in answers if answer.problem]
    if silent:
        told = "\n".join(f"{answer.machine}: {answer.problem}" for answer in silent)
        raise CommandError(told, FAILED)
