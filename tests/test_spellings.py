"""Names that people know from other libraries are answered with their equivalents here."""

from __future__ import annotations

from typing import Any

import pytest

import mob
from mob.errors import PlanError
from mob.plan import OPTIONS
from mob.spellings import MODULE, ROLE, instead, spelled

STORE = 'a store: .store("cache") in the main script, mob.store("cache") in the module of a role'


@pytest.mark.parametrize(
    ("name", "help"),
    [
        ("cache", f"Here it is {STORE}."),
        ("lock", f"Here it is {STORE}."),
        ("timer", 'Here it is @mob.every(seconds) or @mob.cron("15 0 * * *") on a function of a role.'),
        ("requier", "Did you mean 'require'?"),
        ("kludge", "dir(mob) lists its names."),
    ],
)
def test_a_name_that_the_module_does_not_have(name: str, help: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(mob, name)
    assert str(caught.value) == f"module 'mob' has no {name!r}. {help}"


def test_no_name_is_here_and_elsewhere() -> None:
    assert set(MODULE) & set(mob.__all__) == set()
    assert set(ROLE) & set(OPTIONS) == set()


@pytest.mark.parametrize(
    ("name", "help"), [("path", "Here it is 'file'."), ("flie", "Did you mean 'file'?"), ("x", "There are: 'file'.")]
)
def test_what_it_is_instead(name: str, help: str) -> None:
    assert instead(name, {"path": "'file'"}, ["file"]) == help


@spelled({"seconds": "'ttl'"})
def keep(key: str, value: int = 0, *, ttl: float | None = None) -> tuple[str, int, float | None]:
    if value < 0:
        raise TypeError("of its own")
    return key, value, ttl


@spelled({})
def plain(key: str) -> str:
    return key


@pytest.mark.parametrize(
    ("args", "options", "text"),
    [
        (("a",), {"seconds": 5}, "keep() has no option 'seconds'. Here it is 'ttl'."),
        (("a",), {"tll": 5}, "keep() has no option 'tll'. Did you mean 'ttl'?"),
        (("a", 1, 5), {}, "keep() accepts these options only by name: ttl="),
        ((), {}, "keep() missing 1 required positional argument: 'key'"),
        (("a", -1), {}, "of its own"),
    ],
)
def test_what_a_function_does_not_take(args: tuple[Any, ...], options: dict[str, Any], text: str) -> None:
    called: Any = keep
    with pytest.raises(TypeError) as caught:
        called(*args, **options)
    assert str(caught.value) == text


def test_a_function_that_is_called_as_it_should_be_is_left_alone() -> None:
    assert keep("a", 1, ttl=5) == ("a", 1, 5)
    assert keep.__name__ == "keep"
    called: Any = plain
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        called("a", "b")


EXPORT_OPTIONS = ("'batch'", "'concurrency'", "'idempotent'", "'kill_after'", "'timeout'", "'within'")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kill": 1}, "export() has no option 'kill'. Here it is 'kill_after', in seconds."),
        ({"kill_aftr": 1}, "export() has no option 'kill_aftr'. Did you mean 'kill_after'?"),
        ({"zzz": 1}, f"export() has no option 'zzz'. There are: {', '.join(EXPORT_OPTIONS)}."),
        ({"function": print}, f"export() has no option 'function'. There are: {', '.join(EXPORT_OPTIONS)}."),
    ],
)
def test_an_option_that_an_export_does_not_have(options: dict[str, Any], text: str) -> None:
    called: Any = mob.export
    with pytest.raises(TypeError) as caught:
        called(**options)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("method", "args", "options", "text"),
    [
        ("store", ("cache",), {"path": "x"}, "App.store() has no option 'path'. Here it is 'file'."),
        ("store", ("cache",), {"max_memry": 1}, "App.store() has no option 'max_memry'. Did you mean 'max_memory'?"),
        (
            "store",
            ("cache", "1G"),
            {},
            "App.store() accepts these options only by name: max_memory=, file=, callers=",
        ),
        ("queue", (), {"file": "x"}, "App.queue() has no option 'file'. Here it is 'path'."),
        ("logs", (), {"path": "x"}, "App.logs() has no option 'path'. Here it is 'file'."),
        ("dashboard", (), {"address": "x"}, "App.dashboard() has no option 'address'. Here it is 'host'."),
        ("cluster", ("x",), {"nod": "x"}, "App.cluster() has no option 'nod'. Did you mean 'node'?"),
    ],
)
def test_an_option_that_a_line_of_the_main_script_does_not_have(
    method: str, args: tuple[Any, ...], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(PlanError) as caught:
        getattr(mob.start("spelt"), method)(*args, **options)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("option", "help"),
    [
        ("bind", 'Here it is \'serve\', such as "127.0.0.1:8000" or "unix:./web.sock".'),
        (
            "max_requests",
            "Here it is 'max_age', in seconds, or 'max_memory'; 'max_calls' does not count HTTP requests.",
        ),
        ("timeout", "Here it is 'hang_timeout' for a blocked worker, or mob.export(kill_after=seconds) for calls."),
        ("graceful_timeout", "Here it is mob.start(name, grace=seconds), for the whole app."),
        ("preload", "Here it is app.preload(module, ...), for the whole app."),
        ("max_calsl", "Did you mean 'max_calls'?"),
    ],
)
def test_an_option_that_a_role_does_not_have(option: str, help: str) -> None:
    described: Any = mob.start("spelt")
    with pytest.raises(PlanError) as caught:
        described.role("web", "./web.py", **{option: 1})
    assert str(caught.value) == f"role 'web': unknown option {option!r}. {help}"
