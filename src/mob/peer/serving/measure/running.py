"""What this process is running: for the report of a crash, and for whoever asks which call has killed it.

Calls that run beside others (tasks, threads) are kept here with their beginnings. The one that runs on the loop is kept
by its mark on the board only, for it is on the hot path: the mark says which export the process is running, if it is
one and no other, and outlives the process. Marks are numbers (`rim.board.mark_of`).
"""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING

from mob.peer.serving.turns import CallKey
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.serving.exports import Export

KILLED_WITHIN = 1.0
"""Seconds within which a worker is killed whose call has run for its `kill_after`: until then it does not hang."""
SHOWN = 20
"""Calls of a report; the oldest."""


class RunningCalls:
    """The calls that run."""

    __slots__ = ("_beside", "_context", "_marks", "mark", "on_loop", "on_loop_since")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._beside: dict[CallKey, tuple[Export, float]] = {}  # and since when
        self._marks: Counter[int] = Counter()
        self.mark: int = 0
        """What the board says."""
        self.on_loop: Export | None = None
        """The export that runs on the loop, or has run there last."""
        self.on_loop_since: float = 0.0
        """When the loop has turned to calls, 0 while it does not: at most a slice of work before the call began."""

    def __repr__(self) -> str:
        return f"<RunningCalls, {len(self._beside)} beside the loop>"

    def enter(self, export: Export) -> None:
        """The loop turns to a call of another export than the one before."""
        self.on_loop = export
        self._put(export.mark)

    def rest(self) -> None:
        """The loop has no call in hand; what runs beside it goes on."""
        self.on_loop, self.on_loop_since = None, 0.0
        self._put_beside()

    def leave(self) -> None:
        """Turn from an export to something else that the loop runs, such as the handler of a message."""
        if self.on_loop is not None:
            self.on_loop = None
            self._put_beside()

    def begin(self, key: CallKey, export: Export) -> float:
        """A call runs beside others, from this moment on."""
        now = monotonic()
        self._beside[key] = export, now
        self._marks[export.mark] += 1
        return now

    def begin_in_thread(self, key: CallKey, export: Export) -> None:
        """A thread is about to run a call: the board is to know before, for the call may end the process at once."""
        self.begin(key, export)
        self.on_loop = None  # whatever the loop turns to next is put on the board again
        self._put(export.mark if len(self._marks) == 1 else 0)

    def end(self, key: CallKey) -> tuple[Export, float] | None:
        """It has ended: which export it was of, and when it had begun."""
        begun = self._beside.pop(key, None)
        if begun is not None:
            mark = begun[0].mark
            self._marks[mark] -= 1
            if not self._marks[mark]:
                del self._marks[mark]
            if self.on_loop is None:
                self.rest()
        return begun

    def report(self, now: float) -> tuple[m.Running, ...]:
        """The calls in hand, the oldest first. From any thread."""
        calls: list[m.Running] = []
        for (link, _), (export, since) in list(self._beside.items()):
            calls.append(m.Running(export.label, now - since, link.name))
        export, since = self.on_loop, self.on_loop_since
        if export is not None and since:
            calls.append(m.Running(export.label, now - since, "the loop"))
        return tuple(sorted(calls, key=lambda call: -call.seconds)[:SHOWN])

    def begun(self, behind: int) -> Counter[str]:
        """Return the calls that have begun and not ended, by export. From any thread. `behind`: how many of those that
        were given to the role's threads wait there for one that is free; they are the last that were given."""
        beside = [export for export, _ in list(self._beside.values())]
        counts = Counter(export.name for export in beside if export.is_async)
        in_threads = [export.name for export in beside if not export.is_async]
        counts.update(in_threads[: max(0, len(in_threads) - behind)])
        export = self.on_loop
        if export is not None and self.on_loop_since and not export.is_async:  # an `async def` one is beside the loop
            counts[export.name] += 1
        return counts

    def allowed(self) -> float:
        """Seconds that the export on the loop may take by its own declaration; 0 if it says nothing."""
        export = self.on_loop
        if export is None:
            return 0.0
        kill_after = export.options.kill_after
        return export.options.timeout or (0.0 if kill_after is None else kill_after + KILLED_WITHIN)

    def _put_beside(self) -> None:
        self._put(next(iter(self._marks)) if len(self._marks) == 1 else 0)

    def _put(self, mark: int) -> None:
        self.mark = mark
        if self._context.board is not None:
            self._context.board.mark(self._context.uid, mark)
