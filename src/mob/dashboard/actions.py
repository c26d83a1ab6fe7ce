"""What a viewer asks for: scale, reload, restart, stacks. Each goes to the Kingpin, and its answer back to the page.

A request is answered soon, even if what it asks for takes long: a reload may replace this very process, which waits for
its requests to end. So after a moment the answer is that it is under way, and its end is told to all who watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from mob.dashboard.feed import Feed
from mob.errors import MobError
from mob.mobster.call import Call
from mob.mobster.steering import Steering, text_of
from mob.wire import messages as m

T = TypeVar("T")
SOON = 1.0
"""Seconds in which an answer has to come to be given at once."""
STACKS = 10.0
"""Seconds that the stacks of a mobster may take, which may be stuck."""


class Reload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New workers for these roles; for all if there is none."""

    roles: tuple[str, ...] = ()


class Restart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a role, or of the mobster with a pid."""

    role: str = ""
    pid: int = 0


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many workers more; less if it is negative."""

    role: str
    change: int


class Stacks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the mobster with that uid."""

    uid: int


class Senseless(Exception):
    """It makes no sense as it was asked."""


class Actions:
    """Carries them out."""

    def __init__(self, steering: Steering, feed: Feed, check_role: Callable[[str], object]) -> None:
        self._steering = steering
        self._feed = feed
        self._check_role = check_role
        self._late: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Actions, {len(self._late)} under way>"

    async def act(self, name: str, body: bytes) -> dict[str, Any]:
        """What became of it; `Senseless` if it makes no sense, `MobError` if it cannot be done."""
        if name == "stacks":
            done = await asyncio.wait_for(_awaited(self._steering.stacks(_read(body, Stacks).uid)), STACKS)
            return {"text": text_of(done)}
        call = self._asked(name, body)
        await asyncio.wait([asked := asyncio.ensure_future(_awaited(call))], timeout=SOON)
        if asked.done():
            return {"text": text_of(asked.result())}
        task = asyncio.create_task(self._tell_later(name, asked))
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return {"text": f"The {name} is under way.", "later": True}

    def _asked(self, name: str, body: bytes) -> Call[m.Done]:
        match name:
            case "reload":
                roles = _read(body, Reload).roles
                for role in roles:
                    self._check_role(role)
                return self._steering.reload(roles)
            case "restart":
                restart = _read(body, Restart)
                if bool(restart.role) == bool(restart.pid):
                    raise Senseless('restart: wanted is a role or a pid, as {"role": "back"} or {"pid": 4242}.')
                if restart.role:
                    self._check_role(restart.role)
                return self._steering.restart((restart.role,) if restart.role else (), restart.pid)
            case "scale":
                scale = _read(body, Scale)
                self._check_role(scale.role)
                return self._steering.scale(scale.role, scale.change, relative=True)
            case _:
                raise Senseless(f"there is no action {name!r}. There are: reload, restart, scale, stacks.")

    async def _tell_later(self, name: str, asked: asyncio.Future[m.Done]) -> None:
        try:
            self._feed.say("done", {"text": text_of(await asked), "error": False})
        except MobError as error:
            self._feed.say("done", {"text": f"{name}: {error}", "error": True})


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Senseless(f"the body of the request is not what is wanted: {error}") from error


async def _awaited(call: Call[m.Done]) -> m.Done:
    return await call
