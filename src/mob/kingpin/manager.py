"""Reports to the service manager (systemd): the app is ready, reloads, stops, and is alive."""

from __future__ import annotations

import asyncio

from mob.core.supervisor import Supervisor
from mob.rim.systemd import ServiceManager


class Manager:
    """Reports to the service manager; each state once."""

    def __init__(self) -> None:
        self._service = ServiceManager()
        self._told = ""

    def __repr__(self) -> str:
        return f"<Manager, told {self._told or 'nothing yet'}>"

    def environment(self) -> dict[str, str]:
        """Return the manager's environment variables for the next program."""
        return self._service.environment()

    def take_over(self) -> None:
        """Note that the previous program already reported the app as ready."""
        self._told = "ready"

    def feed(self, loop: asyncio.AbstractEventLoop) -> None:
        """Report that this process is alive, now and as often as the manager's watchdog requires."""
        if self._service.watchdog is not None:
            self._service.alive()
            loop.call_later(self._service.watchdog, self.feed, loop)

    def tell(self, supervisor: Supervisor) -> None:
        """Report a changed state.

        The app is ready for the first time when every role has a ready worker, or finished its work.
        """
        roster, state = supervisor.roster, self._told
        wanted = [role.name for role in supervisor.plan.roles if role.workers]
        if supervisor.stopping:
            state = "stopping"
        elif supervisor.rollout.is_reloading:
            state = "reloading"
        elif state == "reloading" or (not state and all(map(supervisor.crew.is_met, wanted))):
            state = "ready"
        if state == self._told:
            return
        self._told = state
        match state:
            case "stopping":
                self._service.stopping()
            case "reloading":
                self._service.reloading()
            case _:
                self._service.ready(f"{len(roster.ready())} mobsters are ready")
