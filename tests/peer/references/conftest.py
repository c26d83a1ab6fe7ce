"""Members in one process, for these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peer.references.members import Member, Mob


@pytest.fixture
def mob() -> Iterator[Mob]:
    mob = Mob()
    yield mob
    mob.close()


@pytest.fixture
def two(mob: Mob) -> tuple[Member, Member]:
    return mob.join(), mob.join()
