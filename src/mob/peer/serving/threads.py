"""The threads of a role with several: they run plain `def` exports in the order of their arrival."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread

from mob.peer.serving.limiters import CallKey

ThreadJob = Callable[[], None]


class Threads:
    """A fixed number of threads that run jobs in the given order."""

    def __init__(self, count: int) -> None:
        self._jobs: SimpleQueue[tuple[ThreadJob, Callable[[BaseException], None] | None] | None] = SimpleQueue()
        self._context = copy_context()  # context variables of this mobster apply in its threads as well
        self.count = count
        self._calls: set[CallKey] = set()
        for number in range(count):
            Thread(target=self._run, name=f"mob-export-{number}", daemon=True).start()

    def __repr__(self) -> str:
        return f"<Threads, {self._jobs.qsize()} jobs wait>"

    @property
    def calls(self) -> int:
        """Number of calls that were given to the threads and did not end yet."""
        return len(self._calls)

    @property
    def behind(self) -> int:
        """Number of calls that must end before one more can begin."""
        return max(0, self.calls - self.count + 1)

    def begin_call(self, key: CallKey) -> None:
        """Note a call that is about to be given to the threads."""
        self._calls.add(key)

    def end_call(self, key: CallKey) -> bool:
        """Note that a call ended, if it was here; return whether all threads were busy and now one is free."""
        before = len(self._calls)
        self._calls.discard(key)
        return before == self.count and len(self._calls) < before

    def submit(self, job: ThreadJob, on_failed: Callable[[BaseException], None] | None = None) -> None:
        """Run a job in the first free thread. `on_failed` gets what it raises, in that thread."""
        self._jobs.put((job, on_failed))

    def end(self) -> None:
        """End each thread when the jobs submitted so far are done."""
        for _ in range(self.count):
            self._jobs.put(None)

    def _run(self) -> None:
        is_over = False
        while not is_over:
            try:
                is_over = self._run_jobs()
            except BaseException:  # noqa: BLE001  a thread of the role lives as long as the role
                continue

    def _run_jobs(self) -> bool:
        while (entry := self._jobs.get()) is not None:
            try:
                self._context.copy().run(entry[0])
            except BaseException as error:  # noqa: BLE001  becomes the end of what the job was for
                if entry[1] is not None:
                    entry[1](error)
            del entry  # it holds the arguments of a call, which are freed while this waits for the next one
        return True
