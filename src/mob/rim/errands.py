"""Errands: work that may take long (a slow disk), done one by one in a thread, so that no loop waits for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from mob.rim.lasting import carry_on
from mob.rim.processes import start_thread

MOST = 1000
"""Maximum number of waiting errands; of more the latest are dropped."""


class Errands:
    """The queue and its thread, which starts with the first errand."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_busy = False
        self._is_closing = False

    def __repr__(self) -> str:
        return f"<Errands {self._name}, {len(self._queue)} wait>"

    def run(self, errand: Callable[[], None]) -> bool:
        """Run a function in the thread; return False if too many wait."""
        with self._changed:
            if len(self._queue) >= MOST:
                return False
            self._queue.append(errand)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = start_thread(self._work, self._name)
        return True

    def close(self, seconds: float) -> None:
        """Wait for the queued errands, at most that many seconds, and end the thread."""
        deadline = monotonic() + seconds
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._queue and not self._is_busy, max(0.0, deadline - monotonic()))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._queue or self._is_closing)
                if not self._queue:
                    return
                errand = self._queue.popleft()
                self._is_busy = True
            carry_on(errand, None)
