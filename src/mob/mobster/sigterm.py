"""SIGTERM in a mobster: a wish that it ends, mob's own way to wake a module that blocks, or a matter of the role's.

A role may install a handler of its own, as most servers do. That one is called when the end begins, and cannot end the
process: what is in hand is finished first. A module that blocks in its import gets the signal itself. All of this runs
on the main thread, between two instructions of whatever it does.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from mob.peer.calls import calling, losses, parking
from mob.peer.links import contact, contacts, control
from mob.peer.references import buffers, functions, references
from mob.rim import forks, link

SENDING = frozenset(
    module.__file__
    for module in (link, calling, parking, losses, references, functions, buffers, contact, contacts, control)
)
"""Files whose work must not be broken off in the middle."""
NOT_OF_THE_ROLE = (signal.SIG_DFL, signal.SIG_IGN, None)
"""What `signal.getsignal` says when no handler in Python is installed."""


class Sigterm:
    """What a mobster does with SIGTERM. `call` has the loop's thread call something; `on_asked` is called there when
    somebody wants the mobster to end."""

    def __init__(self, call: Callable[[Callable[[], None]], None], on_asked: Callable[[], None]) -> None:
        self._call = call
        self._on_asked = on_asked
        self._was_installed = False
        self._has_woken = False
        self.should_exit = False
        """Whether the end has begun. Libraries look for this in the object that handles SIGTERM, as uvicorn's does."""
        self.can_wake = False
        """Whether the module blocks in its import, out of which the signal can wake it."""

    def __repr__(self) -> str:
        return f"<Sigterm{', has woken the module' if self._has_woken else ''}>"

    def install(self) -> None:
        """Handle it from now on; on the main thread."""
        self._was_installed = True
        signal.signal(signal.SIGTERM, self._handle)

    def leave(self) -> None:
        """In the child of a fork: have it do what it does in any Python."""
        forks.restore_signals(lambda handler: handler == self._handle)

    def regain(self) -> bool:
        """Handle it again if a loop that handled it has run in the module and ended; return whether that was so."""
        is_lost = self._was_installed and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if is_lost:
            self.install()
        return is_lost

    @property
    def is_the_roles(self) -> bool:
        """Return whether something else handles it than mob."""
        return signal.getsignal(signal.SIGTERM) != self._handle

    def wake(self) -> None:
        """Have the signal break off the import of the module, which blocks."""
        self._has_woken = True
        os.kill(os.getpid(), signal.SIGTERM)

    def pass_on(self, log: logging.Logger) -> None:
        """Call the handler that the role has installed, as it expects at a stop, if the module did not get the signal.

        It cannot end the process: the stop is under way.
        """
        is_served = self._has_woken or signal.getsignal(signal.SIGTERM) in (*NOT_OF_THE_ROLE, self._handle)
        if is_served or not self._was_installed:
            return
        try:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0)  # the interpreter runs handlers between two instructions
        except SystemExit:
            pass  # what it has asked for happens anyway, after the calls in hand
        except Exception:
            log.exception("the SIGTERM handler of this role raised")

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """Between two instructions of the main thread, which may be deep in the application's code, or in mob's.

        Nothing here may take a lock, because the interrupted code may hold it.
        """
        if not (self.can_wake and self._has_woken):  # somebody from outside: first what is under way is finished
            self._call(self._on_asked)
        elif _is_sending(frame):  # to stop here would leave half a frame on a link: the loop's thread sends it back
            self._call(lambda: os.kill(os.getpid(), signal.SIGTERM))
        else:
            raise SystemExit(0)


def _is_sending(frame: FrameType | None) -> bool:
    """Return whether the interrupted code is in the middle of sending."""
    while frame is not None:
        if frame.f_code.co_filename in SENDING:
            return True
        frame = frame.f_back
    return False
