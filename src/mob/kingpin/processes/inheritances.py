"""What workers have left to their successors: files without names, by place. Nothing here ever looks into them."""

from __future__ import annotations

import os

import msgspec

from mob.rim.link import Descriptor


class InheritanceState(msgspec.Struct, frozen=True):
    """One of them, as the next program takes it over."""

    role: str
    index: int
    fd: int
    size: int


class Inheritances:
    """Those that are kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], tuple[Descriptor, int]] = {}

    def __repr__(self) -> str:
        return f"<Inheritances, {len(self._kept)} kept>"

    def put(self, role: str, index: int, fd: int, size: int) -> None:
        """Keep what was left in a place; what was kept there is forgotten."""
        self._kept[role, index] = Descriptor(fd), size

    def get(self, role: str, index: int) -> tuple[Descriptor, int] | None:
        """Return what is kept for a place, and its bytes. It stays here."""
        return self._kept.get((role, index))

    def drop(self, role: str, index: int) -> None:
        """Forget it; who has got it keeps it."""
        self._kept.pop((role, index), None)

    def state(self) -> list[InheritanceState]:
        """Return all that the next program takes over."""
        return [
            InheritanceState(role, index, descriptor.fileno(), size)
            for (role, index), (descriptor, size) in self._kept.items()
        ]

    def take_over(self, states: list[InheritanceState]) -> None:
        """Take what the program before this one has left."""
        for each in states:
            os.set_inheritable(each.fd, False)
            self.put(each.role, each.index, each.fd, each.size)

    def close(self) -> None:
        """Forget all of them."""
        self._kept.clear()
