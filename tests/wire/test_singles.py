"""Single calls of functions that take lists: their signatures, what is refused, and their argument lists."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import pytest

from mob.wire.singles import Singles


def plain(texts: list[str]) -> list[float]:
    """Scores."""
    return [len(text) for text in texts]


def bare(a, b: list, *, c: Sequence) -> list: ...  # type: ignore[empty-body, type-arg]


def kinds(
    a: Sequence[int], b: Iterable[int | None], c: tuple[bytes, ...], d: Annotated[list[dict[str, int]], "x"], e: Any
) -> Any: ...


def unread(a: nonsense) -> list[int]: ...  # type: ignore[empty-body, name-defined]  # noqa: F821


def with_defaults(a: list[int], b: list[int] = 5, *, c: list[int] = 7) -> list[int]: ...  # type: ignore[assignment, empty-body]


def of_anything(*values: list[int]) -> list[int]: ...  # type: ignore[empty-body]


def of_any_name(**values: list[int]) -> list[int]: ...  # type: ignore[empty-body]


def of_one(number: int) -> list[int]: ...  # type: ignore[empty-body]


def of_a_pair(pair: tuple[int, str]) -> list[int]: ...  # type: ignore[empty-body]


def to_one(numbers: list[int]) -> int: ...  # type: ignore[empty-body]


SIGNATURES: dict[str, tuple[Callable[..., Any], str]] = {
    "lists": (plain, "(texts: str) -> float"),
    "no items, or nothing annotated": (bare, "(a, b, *, c)"),
    "other kinds": (kinds, "(a: int, b: int | None, c: bytes, d: dict[str, int], e: Any) -> Any"),
    "what cannot be read": (unread, "(a: nonsense) -> int"),
    "a partial": (functools.partial(with_defaults, c=[1]), "(a: int, b: int = 5, *, c: int = [1]) -> int"),
}


@pytest.mark.parametrize("case", SIGNATURES)
def test_signatures(case: str) -> None:
    function, expected = SIGNATURES[case]
    singles = Singles(function, "back.f")
    assert str(inspect.signature(singles.single)).replace("typing.", "") == expected
    assert inspect.getdoc(singles.single) == inspect.getdoc(function)
    assert singles.single() is None
    assert repr(singles).replace("typing.", "") == f"<Singles{expected}>"


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "any number": (of_anything, r"back\.f has the parameter \*values: .*name each parameter\."),
    "any name": (of_any_name, r"back\.f has the parameter \*\*values: .*name each parameter\."),
    "a single parameter": (of_one, r"back\.f: its parameter 'number' is annotated as int\. .* annotate list\[int\]\."),
    "a pair": (of_a_pair, r"its parameter 'pair' is annotated as tuple\[int, str\]\."),
    "a single result": (to_one, r"the result of back\.f is annotated as int\."),
    "no signature": (max, r"Python finds no signature for back\.f"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_takes_no_lists_is_refused(case: str) -> None:
    function, expected = REFUSED[case]
    with pytest.raises(TypeError, match=expected):
        Singles(function, "back.f")


CALLS: dict[str, tuple[Callable[..., Any], list[Any], Any]] = {
    "no call": (plain, [], ([[]], {})),
    "positions": (plain, [(["x"], {}), (("y",), {})], ([["x", "y"]], {})),
    "names": (with_defaults, [((1,), {"c": 2}), ((), {"b": 3, "a": 4})], ([[1, 4], [5, 3]], {"c": [2, 7]})),
}


@pytest.mark.parametrize("case", CALLS)
def test_from_calls_to_lists(case: str) -> None:
    function, calls, expected = CALLS[case]
    assert Singles(function, "back.f").lists(calls) == expected
