"""The meaning of SIGTERM in a mobster depends on its sender and on what the main thread does at that moment."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from mob.mobster.sigterm import Sigterm
from mob.peer.calls import calling, losses, parking
from mob.peer.links import contact, contacts, control
from mob.peer.references import buffers, functions, references
from mob.rim import link
from tests.patience import PATIENCE
from tests.running import wait_until


class Process:
    """The mobster that gets the signal; `calls` holds what the loop's thread must call."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.sigterm = Sigterm(self.calls.append, self.handle_asked)
        self.asked = 0

    def handle_asked(self) -> None:
        self.asked += 1

    def turn(self) -> None:
        """Let the loop run its calls."""
        wait_until(lambda: self.calls, "there is something to call")
        self.calls.pop(0)()


@pytest.fixture
def process() -> Iterator[Process]:
    before = signal.getsignal(signal.SIGTERM)
    made = Process()
    made.sigterm.install()
    yield made
    signal.signal(signal.SIGTERM, before)


def stand(after: Callable[[], None]) -> None:
    """Wait at a place where the signal arrives between two instructions."""
    after()
    threading.Event().wait(PATIENCE)  # the signal raises here


def test_somebody_from_outside_asks_for_an_end_in_order(process: Process) -> None:
    process.sigterm.can_wake = True
    os.kill(os.getpid(), signal.SIGTERM)
    process.turn()
    assert process.asked == 1


def test_the_signal_wakes_a_module_that_blocks(process: Process) -> None:
    process.sigterm.can_wake = True
    with pytest.raises(SystemExit):
        stand(after=process.sigterm.wake)
    process.sigterm.can_wake = False  # its import has ended
    os.kill(os.getpid(), signal.SIGTERM)
    process.turn()
    assert process.asked == 1


@pytest.mark.parametrize(
    "module",
    [link, calling, parking, losses, references, functions, buffers, contact, contacts, control],
    ids=lambda module: module.__name__,
)
def test_the_middle_of_sending_is_not_broken_off(process: Process, module: ModuleType) -> None:
    process.sigterm.can_wake = True
    assert module.__file__ is not None
    sending = compile("wake()\nwhile not calls: pass", module.__file__, "exec")
    exec(sending, {"wake": process.sigterm.wake, "calls": process.calls})
    with pytest.raises(SystemExit):
        stand(after=process.turn)  # which sends the signal again, and nothing is being sent here


def test_the_handler_of_the_role_is_called_and_cannot_end_the_process(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    log, called = logging.getLogger("mob"), []
    process.sigterm.pass_on(log)  # the role has no handler

    def exits(signum: int, frame: object) -> None:
        called.append(signum)
        raise SystemExit(3)

    def fails(signum: int, frame: object) -> None:
        raise ValueError("of the role")

    assert not process.sigterm.is_the_roles
    signal.signal(signal.SIGTERM, exits)
    assert process.sigterm.is_the_roles
    process.sigterm.pass_on(log)
    assert called == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, fails)
    process.sigterm.pass_on(log)
    assert "the SIGTERM handler of this role raised" in caplog.text
    assert not process.calls


def test_what_a_loop_in_the_module_has_taken_away_is_taken_back(process: Process) -> None:
    assert not process.sigterm.regain()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert process.sigterm.regain()
    assert not process.sigterm.is_the_roles


def test_a_child_of_a_fork_has_what_any_python_has(process: Process) -> None:
    process.sigterm.leave()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_one_that_was_never_installed_touches_nothing() -> None:
    sigterm = Process().sigterm
    before = signal.getsignal(signal.SIGTERM)
    sigterm.pass_on(logging.getLogger("mob"))
    assert not sigterm.regain()
    assert signal.getsignal(signal.SIGTERM) == before
