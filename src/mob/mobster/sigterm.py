"""SIGTERM in a mobster: a request to end, mob's own way to wake a module that blocks, or a matter of the role.

A role may install a handler of its own, as most servers do. That handler is called when the end begins, but cannot end
the process: running calls are finished first. A module that blocks in its import receives the signal itself. All of
this runs on the main thread, between two instructions of whatever it executes.
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
"""Files whose work must not be interrupted halfway."""
NOT_OF_THE_ROLE = (signal.SIG_DFL, signal.SIG_IGN, None)
"""Results of `signal.getsignal` if no Python handler is installed."""


class Sigterm:
    """The SIGTERM handling of a mobster.

    `call` runs a function on the loop's thread; `on_asked` is called there when another process wants the mobster to
    end.
    """

    def __init__(self, call: Callable[[Callable[[], None]], None], on_asked: Callable[[], None]) -> None:
        self._call = call
        self._on_asked = on_asked
        self._was_installed = False
        self._has_woken = False
        self.should_exit = False
        """True if the end has begun. Libraries look for this in the object that handles SIGTERM, as in uvicorn's."""
        self.can_wake = False
        """True while the module blocks in its import, from which the signal can wake it."""

    def __repr__(self) -> str:
        return f"<Sigterm{', has woken the module' if self._has_woken else ''}>"

    def install(self) -> None:
        """Handle SIGTERM from now on; on the main thread."""
        self._was_installed = True
        signal.signal(signal.SIGTERM, self._handle)

    def leave(self) -> None:
        """Restore Python's own behaviour, in the child of a fork."""
        forks.restore_signals(lambda handler: handler == self._handle)

    def regain(self) -> bool:
        """Handle SIGTERM again if a loop in the module handled it and has ended; return whether that was so."""
        is_lost = self._was_installed and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if is_lost:
            self.install()
        return is_lost

    @property
    def is_the_roles(self) -> bool:
        """True if something other than mob handles the signal."""
        return signal.getsignal(signal.SIGTERM) != self._handle

    def wake(self) -> None:
        """Let the signal interrupt the import of the module, which blocks."""
        self._has_woken = True
        os.kill(os.getpid(), signal.SIGTERM)

    def pass_on(self, log: logging.Logger) -> None:
        """Call the role's own handler, as it expects at a stop, unless the module itself got the signal.

        It cannot end the process, which is already stopping.
        """
        is_served = self._has_woken or signal.getsignal(signal.SIGTERM) in (*NOT_OF_THE_ROLE, self._handle)
        if is_served or not self._was_installed:
            return
        try:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0)  # the interpreter runs handlers between two instructions
        except SystemExit:
            pass  # the process ends anyway, after the calls in hand
        except Exception:
            log.exception("the SIGTERM handler of this role raised")

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """Handle the signal between two instructions of the main thread, in code of the application or of mob.

        Nothing here may take a lock, because the interrupted code may hold it.
        """
        if not (self.can_wake and self._has_woken):  # sent by another process: running calls are finished first
            self._call(self._on_asked)
        elif _is_sending(frame):  # stopping now would leave half a frame on a link: the loop's thread signals again
            self._call(lambda: os.kill(os.getpid(), signal.SIGTERM))
        else:
            raise SystemExit(0)


def _is_sending(frame: FrameType | None) -> bool:
    """Return whether the interrupted code is sending."""
    while frame is not None:
        if frame.f_code.co_filename in SENDING:
            return True
        frame = frame.f_back
    return False
