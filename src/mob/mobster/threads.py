"""The threads of a role that has some: N of them, which run the plain `def` exports in the order of their arrival."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread


class Threads:
    """N threads that run jobs in the order given."""

    def __init__(self, count: int) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._context = copy_context()  # what was set for this mobster holds in its threads as well
        self.count = count
        self.calls = 0
        """Calls that were given to the threads and have not ended; counted by who gives them."""
        for number in range(count):
            Thread(target=self._run, name=f"mob-export-{number}", daemon=True).start()

    def __repr__(self) -> str:
        return f"<Threads, {self._jobs.qsize()} jobs wait>"

    @property
    def behind(self) -> int:
        """How many calls must end before one more could begin."""
        return max(0, self.calls - self.count + 1)

    def end_call(self) -> bool:
        """A call has ended. Whether all threads were taken until now, and one is free again."""
        self.calls -= 1
        return self.calls == self.count - 1

    def submit(self, job: Callable[[], None]) -> None:
        """Has a job run by the first thread that is free."""
        self._jobs.put(job)

    def end(self) -> None:
        """Has each thread end when the jobs before this are done."""
        for _ in range(self.count):
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._context.copy().run(job)
            del job  # it holds the arguments of a call, which are free while this waits for the next one
