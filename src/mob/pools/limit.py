"""The time limit of tasks, and the end of those that exceed it.

No message reports the beginning of a task. But a worker begins it when it arrives, or when the task before it is
answered, so the later of the two counts. When the time is over, the board says if the task has begun at all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from mob.core.states import CallState
from mob.errors import CallTimeout
from mob.peer.calls.outgoing import Outgoing
from mob.peer.calls.taking_back import may_have_begun
from mob.peer.results.call import Call
from mob.pools.futures import PoolFuture
from mob.rim.reactor import Reactor

_contact: Any = vars(Call)["contact"]


class TimedCall(Call[Any]):
    """A call that notes the time at which it is sent to a worker, each time."""

    __slots__ = ("_on_sent", "sent_at")

    sent_at: float
    _on_sent: Callable[[TimedCall], None]

    @property
    def contact(self) -> Any:
        """The worker that it was sent to last."""
        return _contact.__get__(self)

    @contact.setter
    def contact(self, contact: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        _contact.__set__(self, contact)
        self.sent_at = monotonic()
        if on_sent := getattr(self, "_on_sent", None):
            on_sent(self)

    def when_sent(self, on_sent: Callable[[TimedCall], None]) -> None:
        """Have `on_sent(call)` called whenever it is sent, and now if it was sent before."""
        self._on_sent = on_sent
        if self.state is CallState.SENT:
            on_sent(self)


class RunLimit:
    """The number of seconds that a task of a pool may run."""

    def __init__(self, peer: Outgoing, seconds: float, kill: Callable[[PoolFuture[Any], BaseException], bool]) -> None:
        self._peer = peer
        self._seconds = seconds
        self._kill = kill
        self._answered: dict[int, float] = {}  # by uid, the time of a worker's last answer

    def __repr__(self) -> str:
        return f"<RunLimit {self._seconds:g} s>"

    def watch(self, future: PoolFuture[Any], call: TimedCall) -> None:
        """End a task in time, whenever it begins."""
        call.when_sent(partial(self._begin, future))

    def handle_answer(self, uid: int) -> None:
        """Note that a worker has answered a task, so the next one begins."""
        self._answered[uid] = monotonic()

    def _begin(self, future: PoolFuture[Any], call: TimedCall) -> None:
        self._look_at(call.sent_at + self._seconds, future, call, call.sent_at)

    def _look_at(self, when: float, future: PoolFuture[Any], call: TimedCall, sent_at: float) -> None:
        reactor = self._peer.context.reactor
        look = partial(self._look, future, call, sent_at)
        reactor.call(partial(_set, reactor, when, look))

    def _look(self, future: PoolFuture[Any], call: TimedCall, sent_at: float) -> None:
        """Check if the time of a task is over; on the loop's thread.

        `sent_at`: the time at which it was sent, as of the scheduling of this check.
        """
        if future.done() or future.call is not call or call.state is not CallState.SENT or call.sent_at != sent_at:
            return
        now = monotonic()
        over = max(sent_at, self._answered.get(call.contact.uid, 0.0)) + self._seconds
        if over > now or not may_have_begun(self._peer, call):
            self._look_at(over if over > now else now + self._seconds, future, call, sent_at)
            return
        text = f"{future.label} ran for more than {self._seconds:g} s (timeout); its worker was killed."
        self._kill(future, CallTimeout(text, executed="maybe"))


def _set(reactor: Reactor, when: float, look: Callable[[], None]) -> None:
    reactor.call_at(when, look)
