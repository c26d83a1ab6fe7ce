"""Messages about data that does not fit an annotation: in the words of Python, with the place of the error.

Strategy. msgspec says what is wrong with one value, and where; `explained` puts that into the user's terms. When mob
itself or pydantic takes a value apart piece by piece, it raises a `Misfit`, which knows the place of each piece.

Limits. Of a proxy, a mock or the like, it shows only the type.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable
from typing import Any

from mob.wire.kinds import stands_in

_kind: Callable[[Any], type[Any]] = type
Convert = Callable[[Any], Any]
"""A function that makes data into what is annotated; it raises `ValueError` with the reason if that does not fit."""
SHOWN = 5
"""Maximum number of misfits of one value that are listed; of more, only the number is given."""


class Misfit(ValueError):
    """Data that does not fit: the place of each misfit, and what is wrong there."""

    def __init__(self, errors: Iterable[tuple[str, str]]) -> None:
        self.errors: list[tuple[str, str]] = list(errors)
        super().__init__(self.below(""))

    def below(self, place: str) -> str:
        """Return the text of all misfits, for a value that lies at `place`.

        >>> Misfit([(".items[2].price", "Input should be greater than 0")]).below("order")
        'order.items[2].price: Input should be greater than 0'
        """
        told = [f"{(place + step).removeprefix('.') or 'it'}: {text}" for step, text in self.errors[:SHOWN]]
        more = len(self.errors) - SHOWN
        return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


class _Brief(reprlib.Repr):
    """A `reprlib.Repr` that shows only the type of proxies, mocks and the like."""

    def repr1(self, x: Any, level: int) -> str:
        kind = _kind(x)
        return f"<{kind.__name__}>" if stands_in(kind) else super().repr1(x, level)


BRIEF = _Brief()
BRIEF.maxstring = BRIEF.maxother = 60

_MISFIT = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`")
_PLACE = re.compile(r" - at (?P<key>`key` in )?`\$(?P<steps>[^`]*)`$")
_STEP = re.compile(r"\.(?P<name>\w+)|\[(?P<index>\d+)\]|.+")
_WORDS = {"object": "dict", "array": "list", "null": "None"}


def said_of(failure: Exception, value: Any, name: str = "") -> str:
    """Return what is wrong with `value`, as the end of a sentence; `name` is the name of the argument."""
    if isinstance(cause := failure.__cause__, Misfit):
        return f"{cause.below(name + _split(str(failure))[1])}."
    return explained(str(failure), value)


def misfits_of(failure: Exception, value: Any, below: str) -> list[tuple[str, str]]:
    """Return each misfit that an error reports about a value that lies at the place `below`."""
    text, steps, _ = _split(str(failure))
    if isinstance(cause := failure.__cause__, Misfit):
        return [(below + steps + place, said) for place, said in cause.errors]
    return [(below + steps, explained(text, _at(steps, value)).removesuffix("."))]


def explained(text: str, value: Any) -> str:
    """Return a message of msgspec about `value`, as the end of a sentence.

    >>> explained("Expected `int`, got `str`", "x")
    "expected int, got str 'x'."
    >>> explained("Expected `int | null`, got `str` - at `$.ages[1]`", {"ages": [1, "x"]})
    "expected int | None, got str 'x' at .ages[1]."
    """
    text, steps, in_key = _split(text)
    if misfit := _MISFIT.fullmatch(text):
        seen = _in_words(misfit["got"]) if in_key else _seen(misfit["got"], steps, value)
        text = f"expected {_in_words(misfit['wanted'])}, got {seen}"
    else:
        text = text.replace("`", "").removesuffix(".")
        text = text[:1].lower() + text[1:]
    return f"{text}{' in a key' if in_key else ''}{' at ' + steps if steps else ''}."


def _split(text: str) -> tuple[str, str, bool]:
    """Return the text of a message, the place that it is about, and whether that is in a key."""
    place = _PLACE.search(text)
    return (text, "", False) if place is None else (text[: place.start()], place["steps"], place["key"] is not None)


def _in_words(wanted: str) -> str:
    return " | ".join(_WORDS.get(word, word) for word in wanted.split(" | "))


_NOWHERE = object()


def _seen(got: str, steps: str, value: Any) -> str:
    """Return the text of the value at that place, if it can be found."""
    value = _at(steps, value)
    if value is _NOWHERE:
        return _in_words(got)
    return "None" if value is None else f"{type(value).__name__} {BRIEF.repr(value)}"


def _at(steps: str, value: Any) -> Any:
    try:
        for step in _STEP.finditer(steps):
            value = value[step["name"]] if step["name"] else value[int(step["index"])]
    except (KeyError, IndexError, TypeError):
        return _NOWHERE
    return value
