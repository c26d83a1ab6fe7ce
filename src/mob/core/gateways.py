"""The gateways of this machine: which of them reach NATS, which one speaks for the Kingpin, which one carries a link.

A gateway that died may be noticed by its socket before its exit is reported; `is_there` checks for that.

Limits: knows nothing of the links themselves, which belong to `pairing`, and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from mob.core.decisions import Write
from mob.core.membership import UNCONNECTED
from mob.core.roster import Roster
from mob.core.routing import gateway_for
from mob.plan import GATEWAY
from mob.wire import messages as m

NEWS_LIMIT = 100
"""Maximum number of changes kept until a gateway can send them; a machine that misses one asks for everything."""


class Gateways:
    """The gateways that opened, and why they do not reach NATS if they do not."""

    def __init__(self, roster: Roster, node: int, is_there: Callable[[int], bool]) -> None:
        self._roster = roster
        self._node = node
        self.is_there = is_there
        """Returns True if the process of a uid is here and has not ended."""
        self._reasons: dict[int, str] = {}  # uid -> why it does not reach NATS, "" if it does
        self._news: list[m.Changed] = []  # changes that could not be sent to the other machines yet
        self._keeping: set[int] = set()
        self._has_left = False

    def __repr__(self) -> str:
        return f"<Gateways {len(self._reasons)}, {len(self._news)} letters wait>"

    def __len__(self) -> int:
        return len(self._reasons)

    def __contains__(self, uid: int) -> bool:
        return uid in self._reasons

    # ----------------------------------------------------------------------------------------- what happens

    def handle_opened(self, uid: int) -> None:
        """Note a gateway that started; it reports later if it reaches NATS."""
        self._reasons[uid] = UNCONNECTED

    def handle_connected(self, uid: int, why_not: str, keeps: bool = True) -> None:
        """Note that a gateway reaches NATS, or why it does not. `keeps`: it can store what singletons leave."""
        self._reasons[uid] = why_not
        if keeps:
            self._keeping.add(uid)

    def handle_gone(self, uid: int) -> bool:
        """Forget a process that ended; return True if it was a gateway."""
        return self._reasons.pop(uid, None) is not None

    def leave(self) -> None:
        """Send nothing from now on, because the others would think that this machine is back."""
        self._has_left = True

    # -------------------------------------------------------------------------------------------- questions

    @property
    def speaker(self) -> int | None:
        """The gateway through which this Kingpin exchanges messages with the others."""
        return next((uid for uid, why_not in self._reasons.items() if not why_not), None)

    @property
    def keeper(self) -> int | None:
        """The gateway that stores and fetches what singletons leave."""
        return next((uid for uid, why_not in self._reasons.items() if not why_not and uid in self._keeping), None)

    @property
    def why_cut(self) -> str | None:
        """Why no gateway reaches NATS, "" if one does; None as long as none has found out."""
        return min((why_not for why_not in self._reasons.values() if why_not != UNCONNECTED), default=None)

    def choose(self, local: int, remote: int) -> int | None:
        """Return the gateway here that carries the link of two members; None if it has not reached NATS yet.

        It stays the same until the gateways change.
        """
        there = [each.uid for each in self._ready(self._node) if self.is_there(each.uid)]
        reasons = {uid: self._reasons.get(uid, UNCONNECTED) for uid in there}
        chosen = gateway_for(local, remote, [uid for uid in there if reasons[uid] in ("", UNCONNECTED)])
        return None if chosen is None or reasons[chosen] else chosen

    def is_served(self, node: int) -> bool:
        """Return True if a machine has a gateway that is ready."""
        return bool(self._ready(node))

    def _ready(self, node: int) -> list[m.Member]:
        return [each for each in self._roster.ready(GATEWAY) if m.node_of(each.uid) == node]

    # ---------------------------------------------------------------------------------------------- letters

    def write(self, node: int, words: m.Words) -> list[Write]:
        """Return what the speaker sends now: these words, or nothing.

        Changes are kept for a short time without a speaker; other words are dropped, and a machine that misses them
        notices.
        """
        if self._has_left:
            return []
        if self.speaker is not None and self.is_there(self.speaker):
            return [Write(node, words)]
        if isinstance(words, m.Changed) and len(self._news) < NEWS_LIMIT:
            self._news.append(words)
        return []

    def tell_news(self) -> list[Write]:
        """Return the changes that were kept and can be sent now."""
        if self.speaker is None:
            return []
        news, self._news = self._news, []
        return [write for words in news for write in self.write(0, words)]
