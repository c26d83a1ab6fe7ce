"""Calls without pause, in threads, and their outcomes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Load:
    """Each thread makes its call again and again; `answers` and `errors` have the time of each."""

    def __init__(self, *calls: Callable[[], object]) -> None:
        self.answers: list[tuple[float, object]] = []
        self.errors: list[tuple[float, Exception]] = []
        self.longest = 0.0
        """Seconds of the longest call."""
        self._stop = False
        self._threads = [threading.Thread(target=self._run, args=(call,)) for call in calls]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()

    def _run(self, call: Callable[[], object]) -> None:
        while not self._stop:
            begun = time.monotonic()
            try:
                answer = call()
            except Exception as error:  # noqa: BLE001  looked at by the test
                self.errors.append((time.monotonic(), error))
            else:
                self.answers.append((time.monotonic(), answer))
            self.longest = max(self.longest, time.monotonic() - begun)

    @property
    def done(self) -> int:
        """Return the number of calls that were answered so far."""
        return len(self.answers)

    def seen(self, since: int = 0) -> set[object]:
        """Return the answers from that one on."""
        return {answer for _, answer in self.answers[since:]}
