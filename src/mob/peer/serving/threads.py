"""The threads of a role that has some: N of them, which run the plain `def` exports in the order of their arrival."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread

from mob.peer.serving.turns import CallKey

ThreadJob = Callable[[], None]


class Threads:
    """N threads that run jobs in the order given."""

    def __init__(self, count: int) -> None:
        self._jobs: SimpleQueue[tuple[ThreadJob, Callable[[BaseException], None] | None] | None] = SimpleQueue()
        self._context = copy_context()  # what was set for this mobster holds in its threads as well
        self.count = count
        self._calls: set[CallKey] = set()
        for number in range(count):
            Thread(target=self._run, name=f"mob-export-{number}", daemon=True).start()

    def __repr__(self) -> str:
        return f"<Threads, {self._jobs.qsize()} jobs wait>"

    @property
    def calls(self) -> int:
        """How many calls were given to the threads and have not ended."""
        return len(self._calls)

    @property
    def behind(self) -> int:
        """How many calls must end before one more could begin."""
        return max(0, self.calls - self.count + 1)

    def begin_call(self, key: CallKey) -> None:
        """A call is about to be given to the threads."""
        self._calls.add(key)

    def end_call(self, key: CallKey) -> bool:
        """A call has ended, if it was there. Whether all threads were taken until now, and one is free again."""
        before = len(self._calls)
        self._calls.discard(key)
        return before == self.count and len(self._calls) < before

    def submit(self, job: ThreadJob, on_failed: Callable[[BaseException], None] | None = None) -> None:
        """Has a job run by the first thread that is free. `on_failed`: gets what it raises, in that thread."""
        self._jobs.put((job, on_failed))

    def end(self) -> None:
        """Has each thread end when the jobs before this are done."""
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
            del entry  # it holds the arguments of a call, which are free while this waits for the next one
        return True
