"""The state machines of mob, as tables. `docs/internals.md` shows them, made from here.

A table maps (state, event) to the next state. What is not in the table cannot happen; `step` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)


class Mobster(StrEnum):
    """Where a mobster's process stands, as the Kingpin sees it."""

    LAUNCHING = "launching"  # the fork server was asked
    BOOTING = "booting"  # the process runs, its module is being imported
    READY = "ready"  # may be given work
    DRAINING = "draining"  # finishes what it has, gets nothing new
    GONE = "gone"  # the process has ended


class Slot(StrEnum):
    """Where a place (role, index) stands: a place outlives the processes that fill it."""

    HELD = "held"  # a role that this one needs has no ready worker yet, or another machine has the lease
    FILLED = "filled"  # a process is there or on its way
    WAITING = "waiting"  # the last one died too soon; the next follows after a pause
    LEAVING = "leaving"  # the role was made smaller; its process finishes
    FAILED = "failed"  # the role has given up; a reload tries again
    EMPTY = "empty"  # its work is done, or the app stops: none will follow


class Call(StrEnum):
    """Where a call stands, as its caller sees it."""

    WAITING = "waiting"  # for a ready worker
    SENT = "sent"  # it is with a certain worker, or on its way there
    DONE = "done"  # value, error or cancelled


class Pair(StrEnum):
    """Where a member and one of another machine stand, as the Kingpin of the first sees it."""

    APART = "apart"  # there is no link, and nobody here wants one
    WANTED = "wanted"  # a member here wants a link; no gateway could be given one yet
    OFFERED = "offered"  # wanted here, and with a gateway; the far member does not have its end yet
    ANSWERED = "answered"  # wanted by the other machine, and with a gateway
    LINKED = "linked"  # both have their ends
    AGAIN = "again"  # the same, and a member here has asked once more: another follows when this one has ended


MOBSTER: Mapping[tuple[Mobster, str], Mobster] = {
    (Mobster.LAUNCHING, "forked"): Mobster.BOOTING,
    (Mobster.LAUNCHING, "ready"): Mobster.READY,  # the mobster was faster than the fork server's report
    (Mobster.LAUNCHING, "exited"): Mobster.GONE,
    (Mobster.LAUNCHING, "asked to stop"): Mobster.DRAINING,
    (Mobster.BOOTING, "ready"): Mobster.READY,
    (Mobster.BOOTING, "asked to stop"): Mobster.DRAINING,
    (Mobster.BOOTING, "exited"): Mobster.GONE,
    (Mobster.READY, "forked"): Mobster.READY,
    (Mobster.READY, "ready"): Mobster.READY,
    (Mobster.READY, "asked to stop"): Mobster.DRAINING,
    (Mobster.READY, "exited"): Mobster.GONE,
    (Mobster.DRAINING, "forked"): Mobster.DRAINING,
    (Mobster.DRAINING, "ready"): Mobster.DRAINING,
    (Mobster.DRAINING, "asked to stop"): Mobster.DRAINING,
    (Mobster.DRAINING, "exited"): Mobster.GONE,
}

SLOT: Mapping[tuple[Slot, str], Slot] = {
    (Slot.HELD, "needed roles are ready"): Slot.FILLED,
    (Slot.HELD, "scaled down"): Slot.EMPTY,
    (Slot.HELD, "stopping"): Slot.EMPTY,
    (Slot.FILLED, "exited, revived at once"): Slot.FILLED,
    (Slot.FILLED, "exited, revived after a pause"): Slot.WAITING,
    (Slot.FILLED, "exited, held"): Slot.HELD,
    (Slot.FILLED, "exited too often"): Slot.FAILED,
    (Slot.FILLED, "exited, done"): Slot.EMPTY,
    (Slot.FILLED, "scaled down"): Slot.LEAVING,
    (Slot.FILLED, "stopping"): Slot.EMPTY,
    (Slot.WAITING, "lease lost"): Slot.HELD,
    (Slot.WAITING, "pause over"): Slot.FILLED,
    (Slot.WAITING, "reloaded"): Slot.FILLED,
    (Slot.WAITING, "scaled down"): Slot.EMPTY,
    (Slot.WAITING, "stopping"): Slot.EMPTY,
    (Slot.LEAVING, "scaled up"): Slot.FILLED,
    (Slot.LEAVING, "exited, done"): Slot.EMPTY,
    (Slot.LEAVING, "stopping"): Slot.EMPTY,
    (Slot.FAILED, "reloaded"): Slot.FILLED,
    (Slot.FAILED, "reloaded, held"): Slot.HELD,
    (Slot.FAILED, "scaled down"): Slot.EMPTY,
    (Slot.FAILED, "stopping"): Slot.EMPTY,
    (Slot.EMPTY, "reloaded"): Slot.FILLED,
    (Slot.EMPTY, "reloaded, held"): Slot.HELD,
    (Slot.EMPTY, "scaled down"): Slot.EMPTY,
    (Slot.EMPTY, "stopping"): Slot.EMPTY,
}

CALL: Mapping[tuple[Call, str], Call] = {
    (Call.WAITING, "worker found"): Call.SENT,
    (Call.WAITING, "refused"): Call.DONE,
    (Call.WAITING, "waited too long"): Call.DONE,
    (Call.WAITING, "cancelled"): Call.DONE,
    (Call.SENT, "answered"): Call.DONE,
    (Call.SENT, "worker lost"): Call.DONE,
    (Call.SENT, "worker lost before it was sent"): Call.WAITING,
    (Call.SENT, "worker lost, may be repeated"): Call.WAITING,
    (Call.SENT, "took too long"): Call.DONE,
    (Call.SENT, "cancelled"): Call.DONE,
}

PAIR: Mapping[tuple[Pair, str], Pair] = {
    (Pair.APART, "wanted"): Pair.WANTED,
    (Pair.APART, "carried"): Pair.ANSWERED,
    (Pair.WANTED, "wanted"): Pair.WANTED,
    (Pair.WANTED, "carried"): Pair.OFFERED,
    (Pair.WANTED, "member gone"): Pair.APART,
    (Pair.OFFERED, "wanted"): Pair.OFFERED,
    (Pair.OFFERED, "carried"): Pair.OFFERED,  # both have asked, over different gateways
    (Pair.OFFERED, "taken"): Pair.LINKED,
    (Pair.OFFERED, "ended"): Pair.WANTED,
    (Pair.ANSWERED, "wanted"): Pair.OFFERED,
    (Pair.ANSWERED, "carried"): Pair.ANSWERED,
    (Pair.ANSWERED, "taken"): Pair.LINKED,
    (Pair.ANSWERED, "ended"): Pair.APART,
    (Pair.LINKED, "wanted"): Pair.AGAIN,
    (Pair.LINKED, "carried"): Pair.ANSWERED,  # the other end of that link has gone already
    (Pair.LINKED, "taken"): Pair.LINKED,
    (Pair.LINKED, "ended"): Pair.APART,
    (Pair.AGAIN, "wanted"): Pair.AGAIN,
    (Pair.AGAIN, "carried"): Pair.OFFERED,
    (Pair.AGAIN, "taken"): Pair.LINKED,
    (Pair.AGAIN, "ended"): Pair.WANTED,
}


def step(table: Mapping[tuple[S, str], S], state: S, event: str) -> S:
    """The next state; `AssertionError` names a step that the table does not have."""
    try:
        return table[state, event]
    except KeyError:
        raise AssertionError(f"{state!r} has no step for {event!r}") from None
