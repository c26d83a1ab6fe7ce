"""Fixtures for the tests of the codec."""

from __future__ import annotations

import pytest

from mob.wire.codec import Codec
from tests.wire.samples import Mob, register_money


@pytest.fixture
def mob() -> Mob:
    return Mob()


@pytest.fixture
def codec(mob: Mob) -> Codec:
    return mob.codec


@pytest.fixture
def rich(mob: Mob) -> Mob:
    """Return a `Mob` that knows `Money`."""
    register_money(mob.codec)
    return mob
