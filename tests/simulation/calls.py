"""Calls as the simulator has them, with the truth about each: how often it was started and finished, and how it ended.

What happens to a call goes through here, and is compared with what mob promises at once. The callers and callees of the
model see `state`, `target` and the like; the truth is for the ledger alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Raw

from mob.core import states
from mob.core.calls import Lifecycle, Terms
from mob.core.routing import Place
from mob.core.states import CallState
from mob.core.streams import Credit
from tests.simulation.clock import claim

if TYPE_CHECKING:
    from mob.peer.links.contact import Body, Contact
    from mob.wire import messages as m
    from tests.simulation.calling import Caller

IDEMPOTENT = frozenset({"look", "fetch"})
EXPORTS = ("add", "look", "work", "fetch", "ask", "count", "crash")
"""`add` and `look` run on the loop; `work`, `fetch` and `ask` are tasks, and `ask` calls others; `count` is a
generator; `crash` sometimes kills its worker."""
TASKS = frozenset({"work", "fetch", "ask"})
TERMS = Terms(wait=4.0)
NOTHING = Raw(b"")


class Call(Lifecycle):
    """A call under way."""

    __slots__ = (
        "begun",
        "caller",
        "chain",
        "contact",
        "deadline",
        "finished",
        "has_begun",
        "key",
        "made",
        "must_not_wait",
        "number",
        "outcome",
        "parent",
        "parked",
        "passage",
        "read",
        "reference",
        "request",
        "route",
        "sent",
        "size",
        "started",
        "target",
        "told",
        "unread",
    )

    def __init__(self, caller: Caller, made: int, route: str, target: str | int) -> None:
        super().__init__(route, TERMS)
        self.caller = caller
        self.made = made
        """Its number among all calls."""
        self.route = route
        """The role that it was made to."""
        self.target = target
        self.key: Place | None = None
        self.deadline: float | None = None
        self.number = 0
        """As its worker knows it, for this attempt."""
        self.contact: Contact | None = None
        self.reference = 0
        """A function in its arguments."""
        self.parent: Any = None
        """The task that waits for it."""
        self.chain: tuple[int, ...] = ()
        """The calls that wait for it: uid and number of each."""
        self.parked: Any = None
        self.passage = ()
        self.request: m.Invoke
        self.begun = 0.0
        self.must_not_wait = False
        """All who could run it wait for it."""
        self.sent = 0
        self.started = 0
        self.finished = 0
        self.outcome = ""
        self.told = ""
        """What its end says of its execution."""
        self.size = 0
        """How many items the generator yields."""
        self.has_begun = False
        """Whether an item has arrived."""
        self.unread = 0
        self.read = 0

    def __str__(self) -> str:
        return f"call {self.made} {self.route}.{self.target} of {self.caller} ({self.outcome or self.state})"

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.state is CallState.DONE

    @property
    def label(self) -> str:
        """What it is called."""
        return f"{self.route}.{self.target}"

    @property
    def body(self) -> Body:
        """All of it but its number."""
        me: Any = self  # instead of its trace
        return self.target, NOTHING, (), None, self.chain, me

    def done(self) -> bool:
        """Whether it has ended."""
        return self.is_done

    def cancel(self) -> None:
        """It could not be made, and the line that makes it is told so."""

    def fail(self, error: Exception) -> None:
        """Its end has raised, and the clock knows it."""

    def step(self, event: str) -> None:
        """The next state, by the table."""
        self.state = states.step(states.CALL, self.state, event)


class Generator:
    """What an export has returned, on its way to its caller item by item."""

    __slots__ = ("call", "credit", "is_paused", "left")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.credit = Credit()
        self.left = call.size
        self.is_paused = False

    def __str__(self) -> str:
        return f"{self.call}, {self.left} items left"


class Ledger:
    """The truth about all calls."""

    def __init__(self) -> None:
        self.made = 0
        self.ended = 0
        self.died = 0
        """Calls whose callers have died."""
        self.outcomes: dict[str, int] = {}
        self._sent: dict[tuple[int, str, Place | None, str], int] = {}
        self.starts: list[tuple[int, int, int, str]] = []
        """What has begun: its number, its caller, its worker, and what it shares its place with."""
        self._started: dict[tuple[int, int, str], int] = {}

    def __repr__(self) -> str:
        return f"<Ledger, {self.made:,} calls: {self.outcomes}>"

    def new(self, caller: Caller, route: str, target: str | int) -> Call:
        """A call is made."""
        self.made += 1
        call = Call(caller, self.made, route, target)
        caller.mine[call.made] = call
        return call

    def handle_sent(self, call: Call, contact: Contact) -> None:
        """It goes to a worker."""
        is_for_role = type(call.target) is str  # a function is called where it lives
        claim(
            not is_for_role or contact.uid not in call.caller.heard_draining or call.caller.sends_at_last,
            "no call to a draining worker",
            call,
            contact,
        )
        if not call.sent and call.role and not call.must_not_wait:
            lane = (call.caller.uid, call.route, call.key, str(call.target))
            claim(
                call.made > self._sent.get(lane, 0),
                "calls of an export are sent in the order in which they are made",
                call,
            )
            self._sent[lane] = call.made
        call.sent += 1

    def handle_started(self, call: Call, callee: Caller) -> None:
        """Its function begins."""
        claim(callee.is_alive, "only the living work", call, callee)
        claim(not (call.is_done and call.told == "no"), ".executed is true: 'no', and it was started", call, callee)
        call.started += 1
        claim(call.started == 1 or call.target in IDEMPOTENT, "only what is idempotent is repeated", call, callee)
        kind = "tasks" if call.target in TASKS else "loop"
        group = kind if call.target != "count" else "streams"
        self.starts.append((call.made, call.caller.uid, callee.uid, group))
        if call.sent == 1:
            lane = (call.caller.uid, callee.uid, kind)
            claim(call.number > self._started.get(lane, 0), "order per pair", call, callee)
            self._started[lane] = call.number

    def handle_finished(self, call: Call) -> None:
        """Its function has returned."""
        call.finished += 1

    def handle_ended(self, call: Call, outcome: str, executed: str) -> None:
        """Its caller knows how it ended."""
        call.step("refused" if call.state is CallState.WAITING else "answered")  # complains about the second end
        call.outcome, call.told = outcome, executed
        self.ended += 1
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        claim(call.caller.mine.pop(call.made, None) is call, "every call ends exactly once", call)
        match call.told:
            case "no":
                claim(call.started == 0, ".executed is true: 'no', and it was started", call, outcome)
            case "yes":
                claim(call.started > 0, ".executed is true: 'yes', and it was not started", call, outcome)
            case "" if outcome == "value":
                claim(call.finished > 0, "a value comes from a function that has returned", call)
            case _:
                pass
        if outcome == "value" and call.target == "count":
            claim(call.read + call.unread == call.size, "a stream is whole", call, call.read, call.unread, call.size)

    def handle_died(self, caller: Caller) -> None:
        """A caller is gone, and its calls with it."""
        self.died += len(caller.mine)
        caller.mine.clear()
