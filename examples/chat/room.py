"""What was said, and who is there. Everything that happens gets the next number, and is told to all fronts.

A person is a visitor (a name that the page has made up for itself) on some socket of some front. One whose socket has
gone may be back in a moment on another, after a reload or the death of a front: only who stays away has left.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any

import mob

__all__ = ["enter", "leave", "say", "since", "typing"]

PATIENCE = 3.0
"""Seconds that somebody may be away without having left."""
LONGEST = 2000
"""Characters of a message."""
ID = uuid.uuid4().hex
"""Of this room: one that is revived counts anew, and the pages have to know."""


@dataclass
class Person:
    name: str
    socket: str = ""
    front: int = 0
    """The pid of the front that has the socket; 0 while there is none."""


people: dict[str, Person] = {}
events: deque[dict[str, Any]] = deque(maxlen=500)


def enter(socket: str, visitor: str, name: str, room: str, after: int) -> dict[str, Any]:
    """Somebody has come, or is back. What they have missed since a number of that room; `ValueError` if the name is
    taken or is none."""
    name = " ".join(name.split())[:30]
    if not name:
        raise ValueError("Say who you are.")
    if any(other.name.casefold() == name.casefold() for who, other in people.items() if who != visitor):
        raise ValueError(f"There is somebody called {name} already. Take another name.")
    is_new = visitor not in people
    people[visitor] = Person(name, socket, mob.caller().pid)
    if is_new:
        happen("joined", name)
    return {
        "room": ID,
        "people": sorted(each.name for each in people.values()),
        "history": since(ID, after * (room == ID)),
    }


async def leave(socket: str) -> None:
    """A socket has gone."""
    miss([visitor for visitor, person in people.items() if person.socket == socket])


@mob.on("leave")
async def lose(member: Any) -> None:
    """A front has died, or was replaced, and with it went all of its sockets."""
    miss([visitor for visitor, person in people.items() if person.front == member.pid])


def miss(visitors: list[str]) -> None:
    """They are away: if they do not come back, they have left."""
    for visitor in visitors:
        person = people[visitor]
        person.front = 0
        asyncio.get_running_loop().call_later(PATIENCE, forget, visitor, person)


def forget(visitor: str, person: Person) -> None:
    if people.get(visitor) is person:  # else there is another socket by now
        del people[visitor]
        happen("left", person.name)


def say(visitor: str, text: str, key: str) -> None:
    """A message. The page makes up a key for each: one that is sent again, for want of an answer, is not said twice."""
    if not text.strip() or len(text) > LONGEST:
        raise ValueError(f"A message has 1 to {LONGEST} characters.")
    if all(event.get("key") != key for event in events):
        happen("said", people[visitor].name, text=text, key=key)


def typing(visitor: str) -> None:
    """Somebody is writing. It gets no number, for nobody needs to know it later."""
    mob.all("front").send({"what": "typing", "name": people[visitor].name})


def since(room: str, number: int) -> list[dict[str, Any]]:
    """What has happened after that."""
    return [event for event in events if event["number"] > number or room != ID]


def happen(what: str, name: str, **more: str) -> None:
    number = events[-1]["number"] + 1 if events else 1
    events.append({"number": number, "what": what, "name": name, **more})
    mob.all("front").send(events[-1])
