"""What an operator asks of a running app: to show its state, and to change it.

For clients and for the dashboard, in whatever process: each request is a `Call`, which can be awaited or waited for.
The Kingpin answers (`kingpin/requests.py`); nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mob.errors import MobError
from mob.peer.results.call import Call
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.links.control import Control


class Steering:
    """The requests of one process to its Kingpin."""

    def __init__(self, context: Context, control: Control) -> None:
        self._context = context
        self._control = control

    def __repr__(self) -> str:
        return f"<Steering of {self._context.app!r}>"

    # ----------------------------------------------------------------------------------------------- show

    def overview(self) -> Call[m.Rows]:
        """Request the table of `mob ps`."""
        return self._control.request("overview", m.Overview)

    def metrics(self) -> Call[m.MetricsAre]:
        """Request the metrics: sums since the start, and the values of this moment."""
        return self._control.request("metrics", m.WantMetrics)

    def readiness(self) -> Call[m.ReadinessIs]:
        """Request for each role whether it can take work."""
        return self._control.request("readiness", m.WantReadiness)

    def history(self, since: float = 0.0) -> Call[m.HistoryIs]:
        """Request the past 15 minutes, or what is new since `since` (`HistoryIs.now` of the last answer)."""
        return self._control.request("history", lambda number: m.WantHistory(number, since))

    def stacks(self, uid: int) -> Call[m.Done]:
        """Request the stacks of all threads and tasks of a mobster, even if it is blocked."""
        return self._control.request("stacks", lambda number: m.WantStacks(number, uid))

    def crashes(self, number: int) -> Call[m.CrashesAre]:
        """Request the latest crash reports."""
        return self._control.request("crashes", lambda id_: m.WantCrashes(id_, number))

    def follow(
        self,
        on_lines: Callable[[m.Lines], None],
        role: str = "",
        pid: int = 0,
        last: int = 0,
        goes_on: bool = False,
        index: int = -1,
    ) -> int:
        """Pass what mobsters print to `on_lines`, on the loop's thread; return the number for `unfollow`."""
        return self._control.follow(on_lines, lambda number: m.Follow(number, role, pid, last, goes_on, index))

    def unfollow(self, number: int) -> None:
        """Stop passing the lines of the request with that number."""
        self._control.unfollow(number)

    # --------------------------------------------------------------------------------------------- change

    def scale(self, role: str, count: int, relative: bool = False) -> Call[m.Done]:
        """Set the number of workers of a role, or change it by `count` if `relative`."""
        return self._control.request("scale", lambda number: m.Scale(number, role, count, relative))

    def reload(self, roles: tuple[str, ...]) -> Call[m.Done]:
        """Replace workers by new ones without a gap."""
        return self._control.request("reload", lambda number: m.Reload(number, roles))

    def restart(self, roles: tuple[str, ...] = (), pid: int = 0) -> Call[m.Done]:
        """End workers, all at once, and start new ones."""
        return self._control.request("restart", lambda number: m.Restart(number, roles, pid))

    def run_timer(self, role: str, name: str) -> Call[m.Done]:
        """Run a timer now; the answer arrives when the run ends."""
        return self._control.request("run_timer", lambda number: m.RunTimer(number, role, name))

    def upgrade(self) -> Call[m.Done]:
        """Replace the Kingpin by a new one."""
        return self._control.request("upgrade", m.Upgrade)

    def stop(self, at_once: bool = False) -> Call[m.Done]:
        """Stop the app."""
        return self._control.request("stop", lambda number: m.EndApp(number, at_once))


def text_of(done: m.Done) -> str:
    """Return what was done; raise `MobError` if it was not."""
    if done.error:
        raise MobError(done.error)
    return done.text
