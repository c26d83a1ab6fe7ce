"""Signals: passed to the loop, never handled where they arrive."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from mob.kingpin.signals import Signals, held_back
from mob.rim.reactor import Reactor
from tests.kingpin.members import reactor_by_hand, turn

WANTED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGCHLD)


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    before = {signum: signal.getsignal(signum) for signum in WANTED}
    with reactor_by_hand() as reactor:
        yield reactor
    for signum, handler in before.items():
        signal.signal(signum, handler)


class Heard:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.handlers: dict[signal.Signals, Callable[[], None]] = {
            signum: partial(self.names.append, signum.name) for signum in WANTED
        }


def test_they_wait_for_the_loop_and_keep_their_order(reactor: Reactor) -> None:
    heard = Heard()
    signals = Signals(reactor, heard.handlers)
    signals.install()
    for signum in WANTED:
        signal.raise_signal(signum)
    assert heard.names == []
    turn(reactor)
    assert heard.names == ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGTTIN", "SIGCHLD"]
    signals.remove()
    assert all(signal.getsignal(signum) is signal.SIG_DFL for signum in WANTED)


def test_one_that_was_ignored_stays_ignored_but_for_the_end_of_children(reactor: Reactor) -> None:
    for signum in (signal.SIGHUP, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_IGN)
    heard = Heard()
    signals = Signals(reactor, heard.handlers)
    signals.install()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    for signum in (signal.SIGHUP, signal.SIGCHLD):
        signal.raise_signal(signum)
    turn(reactor)
    assert heard.names == ["SIGCHLD"]
    assert "SIGHUP" not in repr(signals)


def test_what_comes_while_they_are_held_back_comes_afterwards(reactor: Reactor) -> None:
    heard = Heard()
    Signals(reactor, heard.handlers).install()
    with held_back():
        signal.raise_signal(signal.SIGTERM)
        turn(reactor)
        assert heard.names == []
    turn(reactor)
    assert heard.names == ["SIGTERM"]
