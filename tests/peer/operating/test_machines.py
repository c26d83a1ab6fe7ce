"""Which machines of a cluster a process connects to."""

from __future__ import annotations

from collections.abc import Container

import pytest

from mob.peer.operating.machines import Machine, newcomers

A, B, C = Machine("a", 1, is_here=True), Machine("b", 2, is_here=False), Machine("c", 3, is_here=False)
CUT = Machine("b", 2, is_here=False, why_not="the link to NATS is down")

TABLE: dict[str, tuple[list[Machine], Container[str], list[str]]] = {
    "no cluster": ([], (), []),
    "all are new, in their order": ([A, B, C], (), ["a", "b", "c"]),
    "those that are known already are left out": ([A, B, C], {"a": None, "b": None}, ["c"]),
    "one that cannot be reached is not tried": ([A, CUT, C], {"a"}, ["c"]),
    "what is known of a machine that left": ([A], {"a", "b"}, []),
}


@pytest.mark.parametrize("case", TABLE)
def test_which_machines_are_new(case: str) -> None:
    found, known, expected = TABLE[case]
    assert newcomers(found, known) == expected
