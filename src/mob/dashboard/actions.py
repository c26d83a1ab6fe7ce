"""The actions of a viewer: scale, reload, restart, stacks. Each goes to the Kingpin, and its answer back to the page.

A request is answered soon, even if the action takes long: a reload may replace this very process, which waits for its
requests to end. So after a moment the answer is that the action is under way; its end is sent to all viewers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from mob.core.selector import parted
from mob.dashboard.feed import Feed
from mob.dashboard.machines import Machines
from mob.errors import MobError
from mob.peer.operating.steering import Steering, text_of
from mob.peer.results.call import Call
from mob.wire import messages as m

T = TypeVar("T")
ACTION_TIMEOUT = 1.0
"""Seconds that a request waits for the result of an action before it answers that the action is under way."""
STACKS = 10.0
"""Seconds that the stacks of a mobster may take, which may be blocked."""


class ReloadAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reload of these roles; of all roles of a machine if there are none. In a cluster a role is "node:role"."""

    roles: tuple[str, ...] = ()
    node: str = ""


class RestartAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A restart of a role, or of the mobster with a pid."""

    role: str = ""
    pid: int = 0
    node: str = ""


class ScaleAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of the number of workers by `change`, which may be negative."""

    role: str
    change: int


class StacksAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request for the stacks of the mobster with that uid."""

    uid: int


class Senseless(Exception):
    """A request that is not valid."""


class Actions:
    """The part of the dashboard that carries out actions."""

    def __init__(
        self,
        steering: Steering,
        feed: Feed,
        check_role: Callable[[str], object],
        machines: Machines | None = None,
    ) -> None:
        self._steering = steering
        self._machines = machines
        self._feed = feed
        self._check_role = check_role
        self._late: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Actions, {len(self._late)} under way>"

    async def act(self, name: str, body: bytes) -> dict[str, Any]:
        """Carry out an action and return its result.

        Raises `Senseless` if the request is not valid, and `MobError` if the action fails.
        """
        if name == "stacks":
            uid, node = self._feed.meant(_read(body, StacksAction).uid)
            done = await asyncio.wait_for(_awaited(self._of(node).stacks(uid)), STACKS)
            return {"text": text_of(done)}
        if (
            name == "reload"
            and self._machines is not None
            and self._machines.here
            and _read(body, ReloadAction) == ReloadAction()
        ):
            asked = asyncio.ensure_future(self._reload_all(self._machines))
        else:
            asked = asyncio.ensure_future(_awaited(self._asked(name, body)))
        await asyncio.wait([asked], timeout=ACTION_TIMEOUT)
        if asked.done():
            return {"text": text_of(asked.result())}
        task = asyncio.create_task(self._tell_later(name, asked))
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return {"text": f"The {name} is under way.", "later": True}

    def _of(self, node: str) -> Steering:
        """Return what controls that machine; raise `Unavailable` if it cannot be reached."""
        other = None if self._machines is None else self._machines.steering(node)
        return self._steering if other is None else other

    def _asked(self, name: str, body: bytes) -> Call[m.Done]:
        match name:
            case "reload":
                reload = _read(body, ReloadAction)
                named = [parted(role) for role in reload.roles]
                nodes = {node for node, _ in named} or {reload.node}
                if len(nodes) > 1:
                    raise Senseless("reload: these roles are on several machines. Reload one machine at a time.")
                for _, role in named:
                    self._check_role(role)
                return self._of(nodes.pop()).reload(tuple(role for _, role in named))
            case "restart":
                restart = _read(body, RestartAction)
                if bool(restart.role) == bool(restart.pid):
                    raise Senseless('restart: expected a role or a pid: {"role": "back"} or {"pid": 4242}.')
                node, role = parted(restart.role)
                if role:
                    self._check_role(role)
                return self._of(node or restart.node).restart((role,) if role else (), restart.pid)
            case "scale":
                scale = _read(body, ScaleAction)
                node, role = parted(scale.role)
                self._check_role(role)
                return self._of(node).scale(role, scale.change, relative=True)
            case _:
                raise Senseless(f"unknown action {name!r}. There are: reload, restart, scale, stacks.")

    async def _reload_all(self, machines: Machines) -> m.Done:
        """Reload the machines one by one, and stop at the first that fails."""
        told: list[str] = []
        for name in machines.names():
            try:
                told.append(f"{name}: {text_of(await self._of(name).reload(()))}")
            except MobError as error:
                return m.Done(0, error="\n".join([*told, f"{name}: {error}"]))
        return m.Done(0, text="\n".join(told))

    async def _tell_later(self, name: str, asked: asyncio.Future[m.Done]) -> None:
        try:
            self._feed.say("done", {"text": text_of(await asked), "error": False})
        except MobError as error:
            self._feed.say("done", {"text": f"{name}: {error}", "error": True})


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Senseless(f"the body of the request is not valid: {error}") from error


async def _awaited(call: Call[m.Done]) -> m.Done:
    return await call
