"""What the service manager hears of the app: that it is ready, reloads, stops, and is alive."""

from __future__ import annotations

import asyncio

from mob.core.supervisor import Supervisor
from mob.rim.systemd import ServiceManager


class Manager:
    """What the service manager was told, each thing once."""

    def __init__(self) -> None:
        self._service = ServiceManager()
        self._told = ""

    def __repr__(self) -> str:
        return f"<Manager, told {self._told or 'nothing yet'}>"

    def environment(self) -> dict[str, str]:
        """Return what it had told this process, for a program that takes its place."""
        return self._service.environment()

    def take_over(self) -> None:
        """Take note that the program before this one has told it that the app is ready."""
        self._told = "ready"

    def feed(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say that this process is alive, from now on and as often as it is wanted."""
        if self._service.watchdog is not None:
            self._service.alive()
            loop.call_later(self._service.watchdog, self.feed, loop)

    def tell(self, supervisor: Supervisor) -> None:
        """Tell what has changed. The app is ready for the first time when every role has a ready worker, or has
        done its work."""
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
