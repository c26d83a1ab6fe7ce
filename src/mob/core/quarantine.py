"""Exports that kill their workers: refused for a while, then tried by one worker alone.

An export during which three workers died within a minute is in quarantine for a minute: every worker of the role
refuses it. Then it is on trial: one worker accepts it. If that worker dies of it, the quarantine starts again, for
twice as long, up to a quarter of an hour; if the worker lives for a minute, all is forgotten. (These are the states
open, half-open and closed of a circuit breaker.)
"""

from __future__ import annotations

from collections import deque

from mob.core.crew import EARLY, Crew
from mob.core.decisions import Decision, Tell, WakeAt

DEATHS = 3
WITHIN = 60.0
FIRST_TERM = 60.0
LONGEST_TERM = 900.0
TRIAL = 60.0


class Suspect:
    """The record of one export that killed workers."""

    __slots__ = ("deaths", "probe", "state", "term", "until")

    def __init__(self) -> None:
        self.deaths: deque[float] = deque()
        self.state: str = "free"  # "free", "refused", "on trial"
        self.term: float = FIRST_TERM
        self.until: float = 0.0
        self.probe: int = 0  # the uid of the worker that tries it


class Quarantine:
    """All exports that were running when a worker died."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self.suspects: dict[tuple[str, str], Suspect] = {}  # (role, export)

    def __repr__(self) -> str:
        return f"<Quarantine: {', '.join(f'{role}.{name}' for role, name in self._refused()) or 'empty'}>"

    def handle_death(self, role: str, export: str, uid: int, now: float) -> list[Decision]:
        """Handle the death of a worker that was running that export (and no other)."""
        suspect = self.suspects.setdefault((role, export), Suspect())
        suspect.deaths.append(now)
        while suspect.deaths[0] <= now - WITHIN:
            suspect.deaths.popleft()
        if suspect.state == "on trial" and suspect.probe == uid:
            suspect.term = min(2 * suspect.term, LONGEST_TERM)
        elif suspect.state != "free" or len(suspect.deaths) < DEATHS:
            return self.handle_gone(uid, now)
        suspect.state, suspect.until, suspect.probe = "refused", now + suspect.term, 0
        text = f"{role}.{export} killed {DEATHS} workers within {WITHIN:g} s"
        if suspect.term > FIRST_TERM:
            text = f"{role}.{export} killed the worker that tried it again"
        return [
            Tell(f"{text}; calls to it are refused for {suspect.term:g} s."),
            *self._announce(role),
            WakeAt(suspect.until),
        ]

    def handle_gone(self, uid: int, now: float) -> list[Decision]:
        """Handle the exit of a worker: if it was trying an export, another worker takes over."""
        decisions: list[Decision] = []
        for (role, _), suspect in self.suspects.items():
            if suspect.state == "on trial" and suspect.probe == uid:
                suspect.probe = 0
                decisions += self._put_on_trial(role, suspect, now)
        return decisions

    def forgive(self, role: str) -> list[Decision]:
        """Forget the record of a role: it has new code."""
        self.suspects = {key: suspect for key, suspect in self.suspects.items() if key[0] != role}
        return self._announce(role)

    def handle_wake(self, now: float) -> list[Decision]:
        """End terms and trials whose time is over."""
        decisions: list[Decision] = []
        for key, suspect in list(self.suspects.items()):
            role, export = key
            if suspect.state == "refused" and suspect.until <= now + EARLY:
                suspect.state = "on trial"
                decisions += self._put_on_trial(role, suspect, now)
            elif suspect.state == "on trial" and suspect.probe == 0:
                decisions += self._put_on_trial(role, suspect, now)
            elif suspect.state == "on trial" and suspect.until <= now + EARLY:
                del self.suspects[key]
                decisions += [Tell(f"calls to {role}.{export} are accepted again."), *self._announce(role)]
        return decisions

    def _put_on_trial(self, role: str, suspect: Suspect, now: float) -> list[Decision]:
        ready = [each for each in self._crew.roster.ready(role) if each.uid in self._crew.processes]
        if not ready:
            return [WakeAt(now + 1.0)]
        suspect.probe = min(member.uid for member in ready)
        suspect.until = now + TRIAL
        return [*self._announce(role), WakeAt(suspect.until)]

    def _refused(self) -> list[tuple[str, str]]:
        return [key for key, suspect in self.suspects.items() if suspect.state != "free"]

    def _announce(self, role: str) -> list[Decision]:
        refused = sorted((name, self.suspects[of, name].probe) for of, name in self._refused() if of == role)
        return self._crew.role_changed(role, quarantined=tuple(refused))
