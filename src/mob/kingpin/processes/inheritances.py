"""What workers hand over to their successors: files without names, by slot. Nothing here reads them."""

from __future__ import annotations

import os

import msgspec

from mob.rim.link import Descriptor


class InheritanceState(msgspec.Struct, frozen=True):
    """An inheritance as it is handed over to the next program."""

    role: str
    index: int
    fd: int
    size: int


class Inheritances:
    """The inheritances that are kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], tuple[Descriptor, int]] = {}

    def __repr__(self) -> str:
        return f"<Inheritances, {len(self._kept)} kept>"

    def put(self, role: str, index: int, fd: int, size: int) -> None:
        """Keep what was handed over in a slot, instead of what was kept for it before."""
        self._kept[role, index] = Descriptor(fd), size

    def get(self, role: str, index: int) -> tuple[Descriptor, int] | None:
        """Return what is kept for a slot, and its size in bytes. It stays here."""
        return self._kept.get((role, index))

    def drop(self, role: str, index: int) -> None:
        """Forget what is kept for a slot; a worker that received it keeps it."""
        self._kept.pop((role, index), None)

    def state(self) -> list[InheritanceState]:
        """Return the state for the next program."""
        return [
            InheritanceState(role, index, descriptor.fileno(), size)
            for (role, index), (descriptor, size) in self._kept.items()
        ]

    def take_over(self, states: list[InheritanceState]) -> None:
        """Take over from the previous program."""
        for each in states:
            os.set_inheritable(each.fd, False)
            self.put(each.role, each.index, each.fd, each.size)

    def close(self) -> None:
        """Forget everything."""
        self._kept.clear()
