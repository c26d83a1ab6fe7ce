"""The state machines of mob, as tables. `docs/internals/states.md` shows them, generated from here.

A table maps (state, event) to the next state. What is not in the table cannot happen; `step` raises then.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)


class MobsterState(StrEnum):
    """State of a mobster's process, as the Kingpin sees it."""

    LAUNCHING = "launching"  # the fork server was asked
    BOOTING = "booting"  # the process runs, its module is being imported
    SPARE = "spare"  # has booted, and waits for a place to become free
    READY = "ready"  # may be given work
    HANDING = "handing"  # leaves its data to a successor that is about to start; gets nothing new
    DRAINING = "draining"  # finishes what it has, gets nothing new
    GONE = "gone"  # the process has ended


class SlotState(StrEnum):
    """State of a place (role, index), which outlives the processes that fill it."""

    HELD = "held"  # a role that this one needs has no ready worker yet, or another machine has the lease; a spare's
    # own role has none
    FILLED = "filled"  # a process is there or on its way
    WAITING = "waiting"  # the last process died too soon; the next one follows after a pause
    LEAVING = "leaving"  # the role was made smaller; its process finishes
    FAILED = "failed"  # the role has given up; a reload tries again
    EMPTY = "empty"  # its work is done, or the app stops: no process follows


class CallState(StrEnum):
    """State of a call, as its caller sees it."""

    WAITING = "waiting"  # for a ready worker
    SENT = "sent"  # it is at a worker, or on its way there
    DONE = "done"  # value, error or cancelled


class PairState(StrEnum):
    """State of a member and one of another machine, as the Kingpin of the first sees it."""

    APART = "apart"  # there is no link, and no member here wants one
    WANTED = "wanted"  # a member here wants a link; no gateway could be given one yet
    OFFERED = "offered"  # wanted here, and with a gateway; the far member does not have its end yet
    ANSWERED = "answered"  # wanted by the other machine, and with a gateway
    LINKED = "linked"  # both have their ends
    AGAIN = "again"  # linked, and a member here asked once more: another link follows when this one ends


MOBSTER: Mapping[tuple[MobsterState, str], MobsterState] = {
    (MobsterState.LAUNCHING, "forked"): MobsterState.BOOTING,
    (MobsterState.LAUNCHING, "ready"): MobsterState.READY,  # the mobster was faster than the fork server's report
    (MobsterState.LAUNCHING, "booted as a spare"): MobsterState.SPARE,
    (MobsterState.LAUNCHING, "exited"): MobsterState.GONE,
    (MobsterState.LAUNCHING, "asked to stop"): MobsterState.DRAINING,
    (MobsterState.BOOTING, "ready"): MobsterState.READY,
    (MobsterState.BOOTING, "booted as a spare"): MobsterState.SPARE,
    (MobsterState.BOOTING, "asked to stop"): MobsterState.DRAINING,
    (MobsterState.BOOTING, "exited"): MobsterState.GONE,
    (MobsterState.SPARE, "forked"): MobsterState.SPARE,
    (MobsterState.SPARE, "booted as a spare"): MobsterState.SPARE,
    (MobsterState.SPARE, "promoted"): MobsterState.READY,
    (MobsterState.SPARE, "promoted, has to serve first"): MobsterState.BOOTING,
    (MobsterState.SPARE, "asked to stop"): MobsterState.DRAINING,
    (MobsterState.SPARE, "exited"): MobsterState.GONE,
    (MobsterState.READY, "forked"): MobsterState.READY,
    (MobsterState.READY, "ready"): MobsterState.READY,
    (MobsterState.READY, "asked to stop"): MobsterState.DRAINING,
    (MobsterState.READY, "exited"): MobsterState.GONE,
    (MobsterState.READY, "hands over"): MobsterState.HANDING,
    (MobsterState.HANDING, "forked"): MobsterState.HANDING,
    (MobsterState.HANDING, "ready"): MobsterState.HANDING,
    (MobsterState.HANDING, "goes on"): MobsterState.READY,
    (MobsterState.HANDING, "asked to stop"): MobsterState.DRAINING,
    (MobsterState.HANDING, "exited"): MobsterState.GONE,
    (MobsterState.DRAINING, "forked"): MobsterState.DRAINING,
    (MobsterState.DRAINING, "ready"): MobsterState.DRAINING,
    (MobsterState.DRAINING, "booted as a spare"): MobsterState.DRAINING,
    (MobsterState.DRAINING, "asked to stop"): MobsterState.DRAINING,
    (MobsterState.DRAINING, "exited"): MobsterState.GONE,
}

SLOT: Mapping[tuple[SlotState, str], SlotState] = {
    (SlotState.HELD, "needed roles are ready"): SlotState.FILLED,
    (SlotState.HELD, "scaled down"): SlotState.EMPTY,
    (SlotState.HELD, "stopping"): SlotState.EMPTY,
    (SlotState.FILLED, "exited, revived at once"): SlotState.FILLED,
    (SlotState.FILLED, "exited, revived after a pause"): SlotState.WAITING,
    (SlotState.FILLED, "exited, held"): SlotState.HELD,
    (
        SlotState.FILLED,
        "promoted",
    ): SlotState.WAITING,  # of a spare: its process got a place, the next one follows
    (SlotState.FILLED, "exited, a spare takes its place"): SlotState.FILLED,
    (SlotState.FILLED, "exited too often"): SlotState.FAILED,
    (SlotState.FILLED, "exited, done"): SlotState.EMPTY,
    (SlotState.FILLED, "scaled down"): SlotState.LEAVING,
    (SlotState.FILLED, "stopping"): SlotState.EMPTY,
    (SlotState.WAITING, "lease lost"): SlotState.HELD,
    (SlotState.WAITING, "not needed"): SlotState.HELD,  # a spare of a role that ended or was given up
    (SlotState.WAITING, "pause over"): SlotState.FILLED,
    (SlotState.WAITING, "reloaded"): SlotState.FILLED,
    (SlotState.WAITING, "scaled down"): SlotState.EMPTY,
    (SlotState.WAITING, "stopping"): SlotState.EMPTY,
    (SlotState.LEAVING, "scaled up"): SlotState.FILLED,
    (SlotState.LEAVING, "exited, done"): SlotState.EMPTY,
    (SlotState.LEAVING, "stopping"): SlotState.EMPTY,
    (SlotState.FAILED, "reloaded"): SlotState.FILLED,
    (SlotState.FAILED, "reloaded, held"): SlotState.HELD,
    (SlotState.FAILED, "scaled down"): SlotState.EMPTY,
    (SlotState.FAILED, "stopping"): SlotState.EMPTY,
    (SlotState.EMPTY, "reloaded"): SlotState.FILLED,
    (SlotState.EMPTY, "reloaded, held"): SlotState.HELD,
    (SlotState.EMPTY, "scaled down"): SlotState.EMPTY,
    (SlotState.EMPTY, "stopping"): SlotState.EMPTY,
}

CALL: Mapping[tuple[CallState, str], CallState] = {
    (CallState.WAITING, "worker found"): CallState.SENT,
    (CallState.WAITING, "refused"): CallState.DONE,
    (CallState.WAITING, "waited too long"): CallState.DONE,
    (CallState.WAITING, "cancelled"): CallState.DONE,
    (CallState.SENT, "answered"): CallState.DONE,
    (CallState.SENT, "worker lost"): CallState.DONE,
    (CallState.SENT, "worker lost before it began"): CallState.WAITING,
    (CallState.SENT, "taken back before it began"): CallState.WAITING,
    (CallState.SENT, "worker lost, may be repeated"): CallState.WAITING,
    (CallState.SENT, "took too long"): CallState.DONE,
    (CallState.SENT, "cancelled"): CallState.DONE,
}

PAIR: Mapping[tuple[PairState, str], PairState] = {
    (PairState.APART, "wanted"): PairState.WANTED,
    (PairState.APART, "carried"): PairState.ANSWERED,
    (PairState.WANTED, "wanted"): PairState.WANTED,
    (PairState.WANTED, "carried"): PairState.OFFERED,
    (PairState.WANTED, "member gone"): PairState.APART,
    (PairState.OFFERED, "wanted"): PairState.OFFERED,
    (PairState.OFFERED, "carried"): PairState.OFFERED,  # both asked, over different gateways
    (PairState.OFFERED, "taken"): PairState.LINKED,
    (PairState.OFFERED, "ended"): PairState.WANTED,
    (PairState.ANSWERED, "wanted"): PairState.OFFERED,
    (PairState.ANSWERED, "carried"): PairState.ANSWERED,
    (PairState.ANSWERED, "taken"): PairState.LINKED,
    (PairState.ANSWERED, "ended"): PairState.APART,
    (PairState.LINKED, "wanted"): PairState.AGAIN,
    (PairState.LINKED, "carried"): PairState.ANSWERED,  # the other end of that link is closed already
    (PairState.LINKED, "taken"): PairState.LINKED,
    (PairState.LINKED, "ended"): PairState.APART,
    (PairState.AGAIN, "wanted"): PairState.AGAIN,
    (PairState.AGAIN, "carried"): PairState.OFFERED,
    (PairState.AGAIN, "taken"): PairState.LINKED,
    (PairState.AGAIN, "ended"): PairState.WANTED,
}


def step(table: Mapping[tuple[S, str], S], state: S, event: str) -> S:
    """Return the next state; `AssertionError` names a step that the table does not have."""
    try:
        return table[state, event]
    except KeyError:
        raise AssertionError(f"{state!r} has no step for {event!r}") from None
