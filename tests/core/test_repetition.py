"""Tables: which calls are sent again after a death, and what is known of them then."""

from __future__ import annotations

import pytest

from mob.core.repetition import executed_after, may_repeat
from mob.errors import Executed
from mob.wire.messages import ExportInfo, RoleInfo

ROLE = RoleInfo("back", (ExportInfo("pay", "()", ""), ExportInfo("look", "()", "", idempotent=True)))


@pytest.mark.parametrize(
    ("role", "target", "retries", "expected"),
    [
        (ROLE, "look", 3, True),
        (ROLE, "look", 1, True),
        (ROLE, "look", 0, False),
        (ROLE, "look", -1, False),
        (ROLE, "pay", 3, False),
        (ROLE, "unknown", 3, False),
        (ROLE, 4, 3, False),  # a function lives in one process
        (RoleInfo("back"), "look", 3, False),  # nothing is known of its exports yet
        (None, "look", 3, False),  # a call to one process
    ],
    ids=["idempotent", "once more", "used up", "beyond", "not", "unknown", "callback", "no exports", "no role"],
)
def test_which_calls_are_repeated(role: RoleInfo | None, target: str | int, retries: int, expected: bool) -> None:
    assert may_repeat(role, target, retries) is expected


@pytest.mark.parametrize(
    ("was_repeated", "executed", "expected"),
    [
        (False, "no", "no"),
        (False, "maybe", "maybe"),
        (False, "yes", "yes"),
        (True, "no", "maybe"),  # the second worker did not start it; the first may have
        (True, "maybe", "maybe"),
        (True, "yes", "yes"),
    ],
)
def test_what_is_known_after_a_repetition(was_repeated: bool, executed: Executed, expected: Executed) -> None:
    assert executed_after(was_repeated, executed) == expected
