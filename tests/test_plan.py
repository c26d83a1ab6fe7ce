"""What a plan accepts, and the text of each refusal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from mob import plan as plans, sizes
from mob.app import App
from mob.errors import PlanError
from mob.plan import (
    OPTIONS,
    Cluster,
    Logs,
    Plan,
    RoleOptions,
    RolePlan,
    check_app_name,
    check_cluster,
    check_dashboard,
    check_limits,
    check_logs,
    check_role,
    is_loopback,
    placed,
    places_in,
    queue_role,
)

BACK = RolePlan("back", "pkg.back")
GOOD_NAMES = ["a", "myapp", "My-App_2.0", "x" * 64]
BAD_NAMES = ["", "2fast", "_x", "-x", "a b", "a/b", "a\n", "é", "x" * 65, None, 7, b"back"]


def plan(**changes: object) -> Plan:
    return msgspec.structs.replace(Plan("myapp", "/", (BACK,)), **changes)


# --- options of a role ------------------------------------------------------------------------------------------------


def test_the_options_that_editors_see_are_those_of_the_plan() -> None:
    told, meant = get_type_hints(RoleOptions), get_type_hints(RolePlan)
    assert set(told) == set(OPTIONS)
    assert {name: kept(name, kind) for name, kind in told.items()} == {name: meant[name] for name in OPTIONS}


def kept(name: str, kind: Any) -> Any:
    """Return the type that the plan has for a given type of input.

    Literal words are text, a list becomes a tuple, and text that stands for a number becomes a number.
    """
    if name in sizes.SIZES | sizes.COUNTS:
        return Union[*(each for each in get_args(kind) if each is not str)]
    if get_origin(kind) is Literal:
        return str
    given = get_args(kind)
    return given[0] if given and get_origin(given[0]) is tuple and list[get_args(given[0])[0]] in given else kind


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
        f"{name!r} cannot name an app. Expected: a letter, then up to 63 letters, digits, '_', '.' or '-', "
        f'as in mob.start("myapp").'
    )


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_cannot_name_a_role(name: str) -> None:
    with pytest.raises(PlanError) as caught:
        check_role(RolePlan(name, "pkg.module"), ())
    assert str(caught.value) == (
        f"{name!r} cannot name a role. Expected: a letter, then up to 63 letters, digits, '_', '.' or '-', "
        f'as in .role("back", "./background_worker.py").'
    )


@pytest.mark.parametrize("name", sorted(plans.RESERVED))
def test_a_name_that_mob_uses_itself(name: str) -> None:
    with pytest.raises(PlanError) as caught:
        check_role(RolePlan(name, "pkg.module"), ())
    assert str(caught.value) == f"{name!r} cannot name a role: mob uses that name itself. Choose another one."
    assert check_app_name(name) == name


def test_a_name_that_another_role_has() -> None:
    with pytest.raises(PlanError) as caught:
        check_role(RolePlan("back", "pkg.other"), (BACK,))
    assert str(caught.value) == (
        "the role 'back' is declared twice: first with 'pkg.back', then with 'pkg.other'. "
        "Give each role its own name; for more processes of one role use workers=."
    )


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["workers", "concurrency", "queue"])
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
    meant = " Did you mean '4095M'?" if limit == 4095 else ""
    assert str(caught.value) == f"frame_limit={limit!r} is not a number of bytes of at least 4096.{meant}"


def test_a_frame_limit_that_no_frame_can_reach() -> None:
    with pytest.raises(PlanError) as caught:
        check_limits(plan(frame_limit=2**32))
    assert str(caught.value) == "frame_limit=4294967296 exceeds the largest possible frame: 4,294,967,295."


@pytest.mark.parametrize(
    ("variable", "reads"),
    [
        ("PYTHONHASHSEED", "Python reads it when the interpreter starts"),
        ("PYTHONUTF8", "Python reads it when the interpreter starts"),
        ("LD_PRELOAD", "the dynamic linker reads it when a program starts"),
        ("MALLOC_ARENA_MAX", "the C library reads it when a program starts"),
    ],
)
def test_a_variable_that_is_read_before_a_role_could_set_it(variable: str, reads: str) -> None:
    with pytest.raises(PlanError) as caught:
        check_role(RolePlan("back", "pkg.back", env={variable: "1"}), ())
    assert str(caught.value).startswith(f"role 'back': env={{{variable!r}: ...}} would have no effect: {reads}, and")
    assert str(caught.value).endswith(f"Set it for the whole app when you start it: {variable}=... mob run main.py.")


@pytest.mark.parametrize("value", [-1, 1.5, "256M", True])
def test_shared_memory_that_is_no_number_of_bytes(value: object) -> None:
    with pytest.raises(PlanError) as caught:
        check_role(RolePlan("back", "pkg.back", shared_memory=value), ())  # type: ignore[arg-type]
    assert str(caught.value) == f"role 'back': shared_memory={value!r} is not a number of bytes; 0 means none."


@pytest.mark.parametrize(
    ("described", "said"),
    [
        (
            lambda: App("a").role("back", "back", max_memory=500),
            "role 'back': max_memory=500 is not a number of bytes of at least 1 MiB, or None. Did you mean '500M'?",
        ),
        (
            lambda: App("a").role("back", "back", max_memory="512k"),
            "role 'back': max_memory=524288 is not a number of bytes of at least 1 MiB, or None. Did you mean '512M'?",
        ),
        (
            lambda: check_limits(plan(frame_limit=64)),
            "frame_limit=64 is not a number of bytes of at least 4096. Did you mean '64M'?",
        ),
        (
            lambda: App("a").logs(max_bytes=100),
            "logs: max_bytes=100 is not a number of bytes of at least 1024. Did you mean '100M'?",
        ),
    ],
)
def test_a_size_that_is_too_small_to_be_meant_is_refused(described: Callable[[], object], said: str) -> None:
    with pytest.raises(PlanError) as caught:
        described()
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("restart", "always", "one of 'permanent', 'transient', 'temporary'"),
        ("stop_exit_codes", (256,), "a tuple of exit statuses, 0 to 255"),
        ("stop_exit_codes", 3, "a tuple of exit statuses, 0 to 255"),
        ("intensity", -1, "a whole number, or None"),
        ("period", 0, "a number of seconds above 0"),
        ("needs", "kv", "a tuple of names of roles"),
        ("essential", 1, "True or False"),
        ("boot_timeout", 0, "a number of seconds above 0, or None"),
        ("boot_tries", 0, "a whole number of at least 1, or None"),
        ("hang_timeout", math.inf, "a number of seconds above 0, or None"),
        ("max_calls", 0, "a whole number of at least 1, or None"),
        ("max_age", -1.0, "a number of seconds above 0, or None"),
        ("max_memory", 1.5, "a number of bytes of at least 1 MiB, or None"),
        ("max_memory", 0, "a number of bytes of at least 1 MiB, or None"),
        ("threads", 0, "a whole number of at least 1, or None"),
        ("threads", 2.5, "a whole number of at least 1, or None"),
        ("max_workers", 0, "a whole number of at least 1, or None"),
        ("env", {"A=B": "x"}, "a dict of names and texts"),
        ("env", {"A": 1}, "a dict of names and texts"),
        ("gpus", 1.5, "a whole number, or a part of one GPU such as 0.5"),
        ("gpus", -1, "a whole number, or a part of one GPU such as 0.5"),
        ("gpus", True, "a whole number, or a part of one GPU such as 0.5"),
        ("spare", -1, "a whole number from 0 to 999"),
        ("spare", True, "a whole number from 0 to 999"),
        ("nice", 20, "a whole number from -20 to 19"),
        ("cpus", (-1,), "a tuple of numbers of cores"),
        ("limits", {"nofile": -1}, "a dict of names and whole numbers"),
    ],
)
def test_an_option_that_is_not_what_it_should_be(option: str, value: object, wanted: str) -> None:
    with pytest.raises(PlanError) as caught:
        check_role(msgspec.structs.replace(BACK, **{option: value}), ())
    assert str(caught.value) == f"role 'back': {option}={value!r} is not {wanted}."


def test_an_environment_that_changes_with_the_size_of_a_role_that_changes_by_itself() -> None:
    role = msgspec.structs.replace(BACK, env={"OF": "{workers}"}, max_workers=4)
    with pytest.raises(PlanError) as caught:
        check_role(role, ())
    assert str(caught.value) == (
        "role 'back': env has {workers} and max_workers=4, so the role would be reloaded each time it grows or shrinks "
        "by itself. Leave one of the two out."
    )
    check_role(msgspec.structs.replace(role, env={"OF": "{index}"}), ())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"singleton": True}, "singleton=True allows one process of the role"),
        ({"restart": "temporary"}, "restart='temporary' never replaces a worker"),
        ({"gpus": 0.5}, "gpus=0.5 depends on the place of a worker, and a spare loads its module before it has one"),
        (
            {"env": {"A": "{index}"}},
            "{index} in env depends on the place of a worker, and a spare loads its module before it has one",
        ),
    ],
)
def test_a_spare_where_it_could_do_nothing(options: dict[str, Any], why: str) -> None:
    with pytest.raises(PlanError) as caught:
        check_role(msgspec.structs.replace(BACK, spare=1, **options), ())
    assert str(caught.value) == f"role 'back': spare=1, but {why}. Leave one of the two out."
    check_role(msgspec.structs.replace(BACK, spare=1, env={"A": "{workers}"}), ())


@pytest.mark.parametrize(
    ("gpus", "count", "places"),
    [
        (1, 3, ["0", "1", "2"]),
        (2, 4, ["0,1", "2,3"]),
        (0.5, 2, ["0", "0", "1", "1"]),
        (0.3, 1, ["0", "0", "0"]),
        (1 / 3, 1, ["0", "0", "0"]),
        (2, 3, ["0,1"]),
    ],
)
def test_places_share_out_the_gpus_of_their_role(gpus: float, count: int, places: list[str]) -> None:
    role = msgspec.structs.replace(BACK, gpus=gpus, devices=tuple(map(str, range(count))))
    assert role.most_with_devices == len(places)
    assert [",".join(role.devices_of(index)) for index in range(len(places))] == places


def test_a_role_without_gpus_has_none_to_share_out() -> None:
    assert BACK.most_with_devices is None
    assert BACK.devices_of(0) == ()


def test_a_role_that_may_not_grow_to_what_it_starts_with() -> None:
    with pytest.raises(PlanError) as caught:
        check_role(msgspec.structs.replace(BACK, workers=4, max_workers=2), ())
    assert str(caught.value) == "role 'back': max_workers=2 is less than workers=4, with which the role starts."


@pytest.mark.parametrize("more", [{"workers": 2}, {"max_workers": 2}])
def test_a_singleton_has_one_worker(more: dict[str, int]) -> None:
    with pytest.raises(PlanError, match=r"role 'back': singleton=True means one process in the whole cluster, so"):
        check_role(msgspec.structs.replace(BACK, **{"workers": 1, **more}, singleton=True), ())
    one = check_role(RolePlan("cron", "cron", singleton=True), ())
    with pytest.raises(PlanError, match=r"roles: cron=2, but 'cron' is a singleton"):
        placed(Plan("app", "/", (one,)), {"cron": 2})
    assert placed(Plan("app", "/", (one,)), {"cron": 1}).roles == (one,)


def test_a_role_that_needs_what_is_not_there() -> None:
    with pytest.raises(PlanError) as caught:
        check_limits(plan(roles=(BACK, RolePlan("front", "f", needs=("bakc",)))))
    assert str(caught.value) == "role 'front' needs 'bakc', which is not a role. Did you mean 'back'?"


def test_roles_that_need_each_other() -> None:
    roles = (BACK, RolePlan("a", "a", needs=("b", "back")), RolePlan("b", "b", needs=("a",)))
    with pytest.raises(PlanError) as caught:
        check_limits(plan(roles=roles))
    assert str(caught.value) == (
        "these roles need each other, so none can be started first: a needs b and back, b needs a."
    )


def test_roles_are_started_after_what_they_need_and_else_as_declared() -> None:
    roles = (RolePlan("front", "f", needs=("kv", "back")), BACK, RolePlan("kv", "k"), RolePlan("z", "z"))
    assert [role.name for role in plans.in_order_of_need(roles)] == ["back", "kv", "front", "z"]


def test_a_strategy_that_is_none() -> None:
    with pytest.raises(PlanError) as caught:
        check_limits(plan(strategy="one_for_all"))
    assert str(caught.value) == "unknown strategy 'one_for_all'. Did you mean 'one_for_one'?"


@pytest.mark.parametrize(
    "changes", [{}, {"grace": 0}, {"grace": 0.5}, {"frame_limit": 4096}, {"frame_limit": 2**32 - 1}]
)
def test_limits_that_make_sense(changes: dict[str, object]) -> None:
    checked = plan(**changes)
    assert check_limits(checked) is checked


# --- what a plan is ---------------------------------------------------------------------------------------------------


def test_what_is_not_said_has_a_default() -> None:
    assert (BACK.workers, BACK.threads, BACK.concurrency, BACK.queue) == (1, None, 100, 10_000)
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


# --- the loopback -----------------------------------------------------------------------------------------------------

HERE = ["localhost", "LocalHost", "127.0.0.1", "127.8.0.1", "::1", "[::1]", "::ffff:127.0.0.1"]
ELSEWHERE = ["", "0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "example.com", "127.example.com", "localhost.example"]


@pytest.mark.parametrize("host", [*HERE, *ELSEWHERE])
def test_what_is_the_loopback(host: str) -> None:
    assert is_loopback(host) is (host in HERE)


ROLES = (RolePlan("back", "back"), RolePlan("gateway", "mob.cluster"))


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (lambda: check_logs(Logs(format="xml")), "logs: unknown format 'xml'."),
        (lambda: check_logs(Logs(max_bytes=1)), "logs: max_bytes=1 is not a number of bytes of at least 1024."),
        (lambda: check_logs(Logs(keep=-1)), "logs: keep=-1 is not a whole number from 0 to 999."),
        (lambda: check_logs(Logs(mode=-1)), "logs: mode=-1 is not a file mode"),
        (lambda: check_logs(Logs(raw=3)), "logs: raw=3 is neither True nor False."),  # type: ignore[arg-type]
        (lambda: check_dashboard(0, "a", None), "dashboard: port=0 is not a whole number from 1 to 65535."),
        (lambda: check_dashboard(80, "", None), "dashboard: host='' is neither a name nor an address"),
        (lambda: check_dashboard(80, "a", "short"), "dashboard: the token must have at least 8 characters"),
        (lambda: check_cluster(Cluster((), "a")), "cluster(): no server was given."),
        (lambda: check_cluster(Cluster(("http://a:b@c",), "a")), "cluster: 'http://c' is not a NATS address."),
        (lambda: check_cluster(Cluster(("nats://a",), "")), "cluster: node='' cannot name a machine."),
        (lambda: check_cluster(Cluster(("nats://a",), "a", gateways=0)), "cluster: gateways=0 is not a whole number"),
        (lambda: places_in("back=x", Plan("a", "/", ROLES)), "roles: 'back=x' gives no number of workers."),
        (lambda: places_in(" ,", Plan("a", "/", ROLES)), "roles: ' ,' names no role."),
        (lambda: check_role(RolePlan("back", "back", env=3), ()), "role 'back': env=3 is not a dict"),  # type: ignore[arg-type]
        (lambda: check_limits(plan(backlog=-1)), "backlog=-1 is not a number of bytes of at least 0."),
        (
            lambda: check_limits(plan(roles=(RolePlan("back", "back", callers=("nowhere",)),))),
            "role 'back': callers='nowhere' is neither a role nor 'client'.",
        ),
        (lambda: placed(Plan("a", "/", ROLES), {"bakc": 1}), "roles: there is no role 'bakc'."),
        (lambda: placed(Plan("a", "/", ROLES), {"back": -1}), "roles: back=-1 is not a whole number."),
    ],
)
def test_options_that_make_no_sense_are_named(check: Callable[[], object], text: str) -> None:
    with pytest.raises(PlanError) as caught:
        check()
    assert str(caught.value).startswith(text)


def test_options_that_make_sense() -> None:
    assert [role.workers for role in placed(Plan("a", "/", ROLES), {"back": 3}).roles] == [3, 1]
    cluster = Cluster(("nats://a",), "a")
    assert check_cluster(cluster) is cluster
    check_dashboard(80, "::1", "long enough")
    back = RolePlan("back", "back", env={"A": "1"}, callers=("back", "client"))
    check_role(back, ())
    check_limits(plan(roles=(back,)))
    assert places_in("back=8, front", Plan("a", "/", ROLES)) == {"back": 8, "front": 1}


@pytest.mark.parametrize(
    ("cluster", "address", "is_open"),
    [
        (None, "app", False),
        (Cluster(("nats://127.0.0.1:4222",), "a"), "app", False),
        (Cluster(("nats://a.example:4222",), "a"), "app", True),
        (Cluster(("nats://me:secret@a.example",), "a", is_named=True), "app@a", False),
        (Cluster(("nats://a.example",), "a", token="secret"), "app", False),
    ],
)
def test_by_what_an_app_is_found_and_who_may_take_part(cluster: Cluster | None, address: str, is_open: bool) -> None:
    assert Plan("app", "/", ROLES, cluster=cluster).address == address
    assert (cluster is not None and cluster.is_open) is is_open
    assert "secret" not in repr(cluster)


def test_what_is_shown_to_a_person_is_text_and_goes_to_no_file() -> None:
    assert plans.Logs().is_shown
    assert not plans.Logs(format="json").is_shown
    assert not plans.Logs(file="/tmp/app.log").is_shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": 0}, "queue: keep=0 is not a number of seconds above 0."),
        ({"keep": "1 day"}, "queue: keep='1 day' is not a number of seconds above 0."),
        ({"in_hand": 0}, "queue: in_hand=0 is not a whole number of at least 1."),
        ({"in_hand": 1.5}, "queue: in_hand=1.5 is not a whole number of at least 1."),
    ],
)
def test_options_of_the_queue_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError) as refused:
        queue_role("/jobs.db", **options)
    assert str(refused.value) == said
