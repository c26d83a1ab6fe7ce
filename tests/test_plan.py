"""What a plan accepts, and the text of each refusal."""

from __future__ import annotations

import math

import msgspec
import pytest

from mob import plan as plans
from mob.errors import PlanError
from mob.plan import Plan, RolePlan, check_app_name, check_limits, check_role

BACK = RolePlan("back", "pkg.back")
GOOD_NAMES = ["a", "myapp", "My-App_2.0", "x" * 64]
BAD_NAMES = ["", "2fast", "_x", "-x", "a b", "a/b", "a\n", "é", "x" * 65, None, 7, b"back"]


def plan(**changes: object) -> Plan:
    return msgspec.structs.replace(Plan("myapp", "/", (BACK,)), **changes)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_that_fits(name: str) -> None:
    assert check_app_name(name) == name
    role = RolePlan(name, "pkg.module")
    assert check_role(role, (BACK,)) is role


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_cannot_name_an_app(name: str) -> None:
    with pytest.raises(PlanError) as caught:
        check_app_name(name)
    assert str(caught.value) == (
        f"{name!r} cannot name an app. Wanted: a letter, then up to 63 letters, digits, '_', '.' or '-', "
        f'as in mob.start("myapp").'
    )


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_cannot_name_a_role(name: str) -> None:
    with pytest.raises(PlanError) as caught:
        check_role(RolePlan(name, "pkg.module"), ())
    assert str(caught.value) == (
        f"{name!r} cannot name a role. Wanted: a letter, then up to 63 letters, digits, '_', '.' or '-', "
        f'as in .role("back", "./background_worker.py").'
    )


@pytest.mark.parametrize("name", sorted(plans.RESERVED))
def test_a_name_that_mob_uses_itself(name: str) -> None:
    with pytest.raises(PlanError) as caught:
        check_role(RolePlan(name, "pkg.module"), ())
    assert str(caught.value) == f"{name!r} cannot name a role: mob uses that word itself. Choose another."
    assert check_app_name(name) == name


def test_a_name_that_another_role_has() -> None:
    with pytest.raises(PlanError) as caught:
        check_role(RolePlan("back", "pkg.other"), (BACK,))
    assert str(caught.value) == (
        "the role 'back' is there twice: first with 'pkg.back', then with 'pkg.other'. "
        "Give each role a name of its own; for more processes of one role say workers=."
    )


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["workers", "threads", "concurrency", "queue"])
@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, "2", None, True])
def test_an_option_that_is_no_count(option: str, value: object) -> None:
    with pytest.raises(PlanError) as caught:
        check_role(msgspec.structs.replace(BACK, **{option: value}), ())
    assert str(caught.value) == f"role 'back': {option}={value!r} is not a whole number of at least 1."


def test_an_app_without_roles() -> None:
    with pytest.raises(PlanError) as caught:
        check_limits(plan(roles=()))
    assert str(caught.value) == (
        'the app \'myapp\' has no role, so there is nothing to run. Add one: .role("back", "./worker.py").'
    )


@pytest.mark.parametrize("grace", [-1, -0.1, math.nan, math.inf, "30", None, True])
def test_a_grace_time_that_is_none(grace: object) -> None:
    with pytest.raises(PlanError) as caught:
        check_limits(plan(grace=grace))
    assert str(caught.value) == f"grace={grace!r} is not a number of seconds."


@pytest.mark.parametrize("limit", [0, 4095, 5000.0, math.inf, math.nan, "1M", None, True])
def test_a_frame_limit_that_is_none(limit: object) -> None:
    with pytest.raises(PlanError) as caught:
        check_limits(plan(frame_limit=limit))
    assert str(caught.value) == f"frame_limit={limit!r} is not a number of bytes of at least 4096."


def test_a_frame_limit_that_no_frame_can_reach() -> None:
    with pytest.raises(PlanError) as caught:
        check_limits(plan(frame_limit=2**32))
    assert str(caught.value) == "frame_limit=4294967296 is more bytes than any frame can have: 4,294,967,295."


@pytest.mark.parametrize("value", [-1, 1.5, "256M", True])
def test_shared_memory_that_is_no_number_of_bytes(value: object) -> None:
    with pytest.raises(PlanError) as caught:
        check_role(RolePlan("back", "pkg.back", shared_memory=value), ())  # type: ignore[arg-type]
    assert str(caught.value) == f"role 'back': shared_memory={value!r} is not a number of bytes; 0 means none."


@pytest.mark.parametrize(
    "changes", [{}, {"grace": 0}, {"grace": 0.5}, {"frame_limit": 4096}, {"frame_limit": 2**32 - 1}]
)
def test_limits_that_make_sense(changes: dict[str, object]) -> None:
    checked = plan(**changes)
    assert check_limits(checked) is checked


# --- what a plan is ---------------------------------------------------------------------------------------------------


def test_what_is_not_said_has_a_default() -> None:
    assert (BACK.workers, BACK.threads, BACK.concurrency, BACK.queue) == (1, 1, 100, 10_000)
    assert BACK.shared_memory == 256 * 1024 * 1024
    assert (plan().grace, plan().frame_limit) == (30.0, 256 * 1024 * 1024)


def test_a_role_is_found_by_its_name() -> None:
    assert plan().role("back") is BACK
    with pytest.raises(KeyError):
        plan().role("front")


def test_a_plan_is_frozen_and_crosses_between_processes() -> None:
    with pytest.raises(AttributeError):
        plan().grace = 1.0  # type: ignore[misc]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(plan()), type=Plan) == plan()
