"""What this process is running: for crash reports, and to find the call that killed it.

Calls that run concurrently (tasks, threads) are kept here with the times when they began. The call that runs on the
loop is only a mark on the board, because it is on the hot path: the mark names the export that the process is running,
if it is a single one, and outlives the process. Marks are numbers (`rim.board.mark_of`).
"""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING

from mob.peer.serving.limiters import CallKey
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.serving.exports import Export

KILLED_WITHIN = 1.0
"""Seconds after a call's `kill_after` within which its worker is killed; until then it is not considered blocked."""
SHOWN = 20
"""Maximum number of calls in a report, the oldest first."""


class RunningCalls:
    """The calls that run in this process."""

    __slots__ = ("_beside", "_context", "_marks", "mark", "on_loop", "on_loop_since")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._beside: dict[CallKey, tuple[Export, float]] = {}  # with the times when they began
        self._marks: Counter[int] = Counter()
        self.mark: int = 0
        """The mark on the board."""
        self.on_loop: Export | None = None
        """The export that runs on the loop, or ran there last."""
        self.on_loop_since: float = 0.0
        """The time when the loop turned to calls; 0 while it does not. The current call began in the same slice."""

    def __repr__(self) -> str:
        return f"<RunningCalls, {len(self._beside)} beside the loop>"

    def enter(self, export: Export) -> None:
        """Note that the loop turns to a call of another export than before."""
        self.on_loop = export
        self._put(export.mark)

    def rest(self) -> None:
        """Note that the loop has no call in hand; calls in tasks and threads go on."""
        self.on_loop, self.on_loop_since = None, 0.0
        self._put_beside()

    def leave(self) -> None:
        """Turn from an export to something else that the loop runs, such as the handler of a message."""
        if self.on_loop is not None:
            self.on_loop = None
            self._put_beside()

    def begin(self, key: CallKey, export: Export) -> float:
        """Note a call that runs concurrently from now on; return the time."""
        now = monotonic()
        self._beside[key] = export, now
        self._marks[export.mark] += 1
        return now

    def begin_in_thread(self, key: CallKey, export: Export) -> None:
        """Note a call that a thread is about to run: first on the board, because it may end the process at once."""
        self.begin(key, export)
        self.on_loop = None  # the next call on the loop is put on the board again
        self._put(export.mark if len(self._marks) == 1 else 0)

    def end(self, key: CallKey) -> tuple[Export, float] | None:
        """Note the end of a call; return its export and the time when it began."""
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
        """Return the calls in hand, the oldest first. From any thread."""
        calls: list[m.Running] = []
        for (link, _), (export, since) in list(self._beside.items()):
            calls.append(m.Running(export.label, now - since, link.name))
        export, since = self.on_loop, self.on_loop_since
        if export is not None and since:
            calls.append(m.Running(export.label, now - since, "the loop"))
        return tuple(sorted(calls, key=lambda call: -call.seconds)[:SHOWN])

    def begun(self, behind: int) -> Counter[str]:
        """Return the number of calls that began and did not end, by export. From any thread.

        `behind`: number of calls for the role's threads that wait for a free one; these were given to them last.
        """
        beside = [export for export, _ in list(self._beside.values())]
        counts = Counter(export.name for export in beside if export.is_async)
        in_threads = [export.name for export in beside if not export.is_async]
        counts.update(in_threads[: max(0, len(in_threads) - behind)])
        export = self.on_loop
        if export is not None and self.on_loop_since and not export.is_async:  # an `async def` export is in `_beside`
            counts[export.name] += 1
        return counts

    def allowed(self) -> float:
        """Return the seconds that the export on the loop may take as it declares; 0 if it declares nothing."""
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
