"""What a person asks of a running app: to show how it goes, and to do something with it.

For clients and for the dashboard, whichever their process: each request is a `Call`, awaited or waited for. The Kingpin
answers (`kingpin/requests.py`); nothing is decided here.
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

    # ---------------------------------------------------------------------------------------------- to show

    def overview(self) -> Call[m.Rows]:
        """The table of `mob ps`."""
        return self._control.request("overview", m.Overview)

    def metrics(self) -> Call[m.MetricsAre]:
        """What is measured: sums since the start, and how it goes at this moment."""
        return self._control.request("metrics", m.WantMetrics)

    def readiness(self) -> Call[m.ReadinessIs]:
        """Whether each role can take work."""
        return self._control.request("readiness", m.WantReadiness)

    def history(self, since: float = 0.0) -> Call[m.HistoryIs]:
        """The past quarter of an hour, or what is new since that time (`HistoryIs.now` of the last answer)."""
        return self._control.request("history", lambda number: m.WantHistory(number, since))

    def stacks(self, uid: int) -> Call[m.Done]:
        """Where all threads and tasks of a mobster stand, even if it is stuck."""
        return self._control.request("stacks", lambda number: m.WantStacks(number, uid))

    def crashes(self, number: int) -> Call[m.CrashesAre]:
        """The latest reports of crashes."""
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
        """Has what mobsters print handed to `on_lines`, on the loop's thread; the number to `unfollow` it by."""
        return self._control.follow(on_lines, lambda number: m.Follow(number, role, pid, last, goes_on, index))

    def unfollow(self, number: int) -> None:
        """No more of it."""
        self._control.unfollow(number)

    # ------------------------------------------------------------------------------------------------ to do

    def scale(self, role: str, count: int, relative: bool = False) -> Call[m.Done]:
        """So many workers, or so many more."""
        return self._control.request("scale", lambda number: m.Scale(number, role, count, relative))

    def reload(self, roles: tuple[str, ...]) -> Call[m.Done]:
        """New workers for old ones, without a gap."""
        return self._control.request("reload", lambda number: m.Reload(number, roles))

    def restart(self, roles: tuple[str, ...] = (), pid: int = 0) -> Call[m.Done]:
        """Workers end, all at once, and others come."""
        return self._control.request("restart", lambda number: m.Restart(number, roles, pid))

    def run_timer(self, role: str, name: str) -> Call[m.Done]:
        """A timer runs now; answered when it has."""
        return self._control.request("run_timer", lambda number: m.RunTimer(number, role, name))

    def upgrade(self) -> Call[m.Done]:
        """A new Kingpin for the old one."""
        return self._control.request("upgrade", m.Upgrade)

    def stop(self, at_once: bool = False) -> Call[m.Done]:
        """The app ends."""
        return self._control.request("stop", lambda number: m.EndApp(number, at_once))


def text_of(done: m.Done) -> str:
    """What was done; `MobError` if it was not."""
    if done.error:
        raise MobError(done.error)
    return done.text
