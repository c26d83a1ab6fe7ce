"""Asking all machines of a cluster at the same time, and one after the other.

A command connects to the app here; what it wants to know of the others it asks their Kingpins (`Client.at`), each in a
thread of its own, so the slowest decides how long it takes and not their number. A machine that does not answer costs
its answer only: what was heard is shown, and then said what was not.
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
"""What `--node` is given for every machine."""
MOST = 32
"""Machines that are asked at the same time."""


@dataclass(frozen=True)
class MachineReply(Generic[T]):
    """What a machine has said."""

    machine: str
    """Its name; nothing if the app is in no cluster."""
    value: T | None
    problem: str = ""
    """Why nothing was heard."""


@contextmanager
def at(app: Client, machine: str) -> Generator[Client]:
    """A client of that machine's Kingpin; of this one it is the client itself."""
    if machine == app.node:
        yield app
    else:
        with app.at(machine) as there:
            yield there


def chosen(app: Client, node: str | None) -> list[str]:
    """The machines that are meant, this one first: one, all, or this one. [""] if the app is in no cluster."""
    if node is None:
        return [app.node]
    known = [machine.name for machine in app.nodes()]
    if node == ALL and ALL not in known:
        return known or [""]
    if node not in known:
        raise UnknownTarget(f"there is no machine {node!r} in the cluster of {app.app!r}. {nearest(node, known)}")
    return [node]


def ask(app: Client, machines: Sequence[str], question: Callable[[Client], T]) -> list[MachineReply[T]]:
    """What each of them says, in that order."""
    if len(machines) == 1 and machines[0] == app.node:
        return [MachineReply(app.node, question(app))]  # what goes wrong here is the command's own error
    with ThreadPoolExecutor(min(MOST, len(machines)), "mob-ask") as threads:
        asked = [threads.submit(_asked, app, machine, question) for machine in machines]
        return [each.result() for each in asked]


def _asked(app: Client, machine: str, question: Callable[[Client], T]) -> MachineReply[T]:
    try:
        with at(app, machine) as there:
            return MachineReply(machine, question(there))
    except TimeoutError:
        return MachineReply(machine, None, f"the Kingpin of {machine!r} did not answer within {CONNECT_TIMEOUT:g} s.")
    except MobError as error:
        return MachineReply(machine, None, str(error))
    except CommandError as error:
        return MachineReply(machine, None, error.message)


class Everywhere:
    """A client of each machine, in a thread of its own, as long as the machine is there."""

    def __init__(self, handle_end: Callable[[str, str], None]) -> None:
        self._handle_end = handle_end
        self.clients: dict[str, Client | None] = {}
        """By machine; None: on the way to it."""

    def __repr__(self) -> str:
        return f"<Everywhere: {', '.join(sorted(self.clients))}>"

    def look(self, app: Client, found: Iterable[Machine], work: Callable[[Client], None]) -> None:
        """Begin to work at those machines that are new. When it ends, `handle_end` gets the machine and why, in its
        thread; the machine is new again then."""
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
    """Does it on one machine after the other, and prints what was done. `CommandError` at the first that fails: it says
    on which it was done, and on which not."""
    if list(machines) == [app.node]:
        echo(label(app) + act(app))  # what goes wrong here is the command's own error
        return
    for number, machine in enumerate(machines):
        answer = _asked(app, machine, act)
        if answer.problem:
            raise CommandError(f"{machine}: {answer.problem}{_so_far(machines, number)}")
        echo(f"{machine}: {answer.value}")


def label(app: Client) -> str:
    """What stands before a line about a machine; nothing if the app is in no cluster."""
    return f"{app.node}: " if app.node else ""


def _so_far(machines: Sequence[str], number: int) -> str:
    done, left = machines[:number], machines[number + 1 :]
    told = f"\nDone on: {', '.join(done)}." if done else ""
    return told + (f"\nNot tried on: {', '.join(left)}." if left else "")


def complain(app: Client, answers: Sequence[MachineReply[T]]) -> None:
    """Says what was not heard, on stderr: with status 1 if a machine has not answered."""
    if app.cut:
        echo(f"The other machines cannot be reached: {app.cut}", err=True)
    silent = [answer for answer in answers if answer.problem]
    if silent:
        told = "\n".join(f"{answer.machine}: {answer.problem}" for answer in silent)
        raise CommandError(told, FAILED)
