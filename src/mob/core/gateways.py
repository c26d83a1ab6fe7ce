"""The gateways of this machine: which of them reach NATS, which one speaks for its Kingpin, which one carries a link.

A gateway that has died may be noticed by its socket before its exit is reported; `is_there` asks for that.

Limits: knows nothing of the links themselves, which are the business of `pairing`, and sends nothing.
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
"""Changes that are kept until a gateway can tell them; a machine that misses one asks for everything."""


class Gateways:
    """The gateways that have opened, and why they do not reach NATS if they do not."""

    def __init__(self, roster: Roster, node: int, is_there: Callable[[int], bool]) -> None:
        self._roster = roster
        self._node = node
        self.is_there = is_there
        """Return whether the process of a uid is here and has not ended."""
        self._reasons: dict[int, str] = {}  # uid -> why it does not reach NATS, "" if it does
        self._news: list[m.Changed] = []  # what could not be told to the other machines yet
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
        """A gateway is there, and will say how it goes."""
        self._reasons[uid] = UNCONNECTED

    def handle_connected(self, uid: int, why_not: str, keeps: bool = True) -> None:
        """A gateway reaches NATS, or says why it does not. `keeps`: it can store what singletons leave."""
        self._reasons[uid] = why_not
        if keeps:
            self._keeping.add(uid)

    def handle_gone(self, uid: int) -> bool:
        """Forget a process that has ended; return whether it was a gateway."""
        return self._reasons.pop(uid, None) is not None

    def leave(self) -> None:
        """Say no more from now on, because the others would think that this machine is back."""
        self._has_left = True

    # -------------------------------------------------------------------------------------------- questions

    @property
    def speaker(self) -> int | None:
        """The gateway through which this Kingpin speaks to the others, and hears them."""
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
        """Return the gateway here that carries the link of two members, the same for each question until the gateways
        change; None if it has not reached NATS yet."""
        there = [each.uid for each in self._ready(self._node) if self.is_there(each.uid)]
        reasons = {uid: self._reasons.get(uid, UNCONNECTED) for uid in there}
        chosen = gateway_for(local, remote, [uid for uid in there if reasons[uid] in ("", UNCONNECTED)])
        return None if chosen is None or reasons[chosen] else chosen

    def is_served(self, node: int) -> bool:
        """Return whether a machine has a gateway that is ready."""
        return bool(self._ready(node))

    def _ready(self, node: int) -> list[m.Member]:
        return [each for each in self._roster.ready(GATEWAY) if m.node_of(each.uid) == node]

    # ---------------------------------------------------------------------------------------------- letters

    def write(self, node: int, words: m.Words) -> list[Write]:
        """Return what the speaker is to send now: these words, or nothing. Changes are kept for a moment in which there
        is no speaker; other words are dropped, and a machine that misses them notices."""
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
