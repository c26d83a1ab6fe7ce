"""Decides whether the app is ready for work, for the probes of Kubernetes, Docker and the like.

An app is ready when each role can take work: one ready worker is enough, so that the death of one of several does not
take the whole app out of a load balancer. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from mob.core.revival import DONE
from mob.core.states import SlotState
from mob.wire.messages import ReadinessIs, RoleReadiness

if TYPE_CHECKING:
    from mob.core.crew import Crew


def readiness(crew: Crew) -> tuple[RoleReadiness, ...]:
    """Return the readiness of each role, in the order of the plan."""
    return tuple(_of(crew, name) for name in crew.roles if crew.roles[name].target or crew.slots_of(name))


def _of(crew: Crew, name: str) -> RoleReadiness:
    members = crew.roster.ready(name)
    ready = sum(member.uid in crew.processes and member.index >= 0 for member in members)
    wanted, why = crew.roles[name].target, ""
    if not ready:
        why = _why_not(crew, name, is_elsewhere=bool(members))
    return RoleReadiness(name, ready, wanted, not why, why)


def _why_not(crew: Crew, name: str, is_elsewhere: bool) -> str:
    """Return why a role without a ready worker here cannot take work; empty if it does not have to."""
    slots = [slot for slot in crew.slots_of(name) if slot.index >= 0]
    is_done = bool(slots) and all(slot.state is SlotState.EMPTY and slot.outcome == DONE for slot in slots)
    if is_done or not crew.roles[name].target:
        return ""  # scaled down to none, or its work is done
    if is_elsewhere and not crew.has_lease(name):
        return ""  # a singleton, which runs on another machine
    if failing := crew.roster.roles[name].failing:
        return failing
    if held := crew.why_held(name):
        return held
    notes = [process.note for process in crew.processes_of(name)] + [slot.note for slot in slots]
    return next(filter(None, notes), "no worker is ready yet")


def shortfall(answer: ReadinessIs, names: Collection[str] = (), excluded: Collection[str] = ()) -> list[str]:
    """Return the texts about roles that cannot take work; of the named ones only, if there are names.

    >>> back, front = RoleReadiness("back", 0, 2, False, "importing"), RoleReadiness("front", 1, 1, True)
    >>> shortfall(ReadinessIs(1, False, (back, front)))
    ['back: 0 of 2 workers ready (importing)']
    """
    if answer.is_stopping:
        return ["the app is stopping"]
    return [f"{told(role)} ({role.why})" for role in chosen(answer.roles, names, excluded) if not role.is_ready]


def chosen(
    roles: Iterable[RoleReadiness], names: Collection[str] = (), excluded: Collection[str] = ()
) -> list[RoleReadiness]:
    """Return the roles with those names, or all; without the excluded ones."""
    return [role for role in roles if role.name not in excluded and (not names or role.name in names)]


def told(role: RoleReadiness) -> str:
    """Return how many workers of a role are ready.

    >>> told(RoleReadiness("back", 1, 2, True))
    'back: 1 of 2 workers ready'
    """
    return f"{role.name}: {role.ready} of {role.wanted} workers ready"
