"""The messages and the people of the room. Every event gets the next number, and is sent to all fronts.

A person is a visitor (an id that the page created) on a socket of a front. When a socket closes, the person may be back
in a moment on another one, after a reload or the crash of a front: only after a while the person has left.
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
"""Seconds that a person may be away without leaving."""
LONGEST = 2000
"""Maximum number of characters of a message."""
ID = uuid.uuid4().hex
"""Identifies this room: a restarted room starts counting at 1, and the pages must notice that."""


@dataclass
class Person:
    name: str
    socket: str = ""
    front: int = 0
    """Pid of the front that has the socket; 0 while there is none."""


people: dict[str, Person] = {}
events: deque[dict[str, Any]] = deque(maxlen=500)


def enter(socket: str, visitor: str, name: str, room: str, after: int) -> dict[str, Any]:
    """Add a person, or one who is back. Return what happened since a number of that room.

    `ValueError` if the name is taken or empty.
    """
    name = " ".join(name.split())[:30]
    if not name:
        raise ValueError("Please enter a name.")
    if any(other.name.casefold() == name.casefold() for who, other in people.items() if who != visitor):
        raise ValueError(f"The name {name} is taken. Please choose another one.")
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
    """Handle a socket that closed."""
    miss([visitor for visitor, person in people.items() if person.socket == socket])


@mob.on("leave")
async def lose(member: Any) -> None:
    """Handle a front that crashed or was replaced, and whose sockets are closed."""
    miss([visitor for visitor, person in people.items() if person.front == member.pid])


def miss(visitors: list[str]) -> None:
    """Mark visitors as away: if they do not come back in time, they have left."""
    for visitor in visitors:
        person = people[visitor]
        person.front = 0
        asyncio.get_running_loop().call_later(PATIENCE, forget, visitor, person)


def forget(visitor: str, person: Person) -> None:
    if people.get(visitor) is person:  # else the visitor has another socket by now
        del people[visitor]
        happen("left", person.name)


def say(visitor: str, text: str, key: str) -> None:
    """Add a message. The page creates a key for each, so a message that it repeats is not added twice."""
    if not text.strip() or len(text) > LONGEST:
        raise ValueError(f"A message has 1 to {LONGEST} characters.")
    if all(event.get("key") != key for event in events):
        happen("said", people[visitor].name, text=text, key=key)


def typing(visitor: str) -> None:
    """Report that a person is typing. This gets no number, because it does not matter later."""
    mob.all("front").send({"what": "typing", "name": people[visitor].name})


def since(room: str, number: int) -> list[dict[str, Any]]:
    """Return the events after that number."""
    return [event for event in events if event["number"] > number or room != ID]


def happen(what: str, name: str, **more: str) -> None:
    number = events[-1]["number"] + 1 if events else 1
    events.append({"number": number, "what": what, "name": name, **more})
    mob.all("front").send(events[-1])
