"""Converts between what a user types, what crosses to a worker, and what is printed: JSON both ways. Pure.

An argument is parsed as JSON if possible, else taken as text: `1` is a number, `"1"` and `one` are text. Values are
printed as msgspec encodes them (bytes as base64, dates as ISO 8601, sets as arrays); what it cannot encode is shown by
its `repr`, because a result that cannot be printed is useless.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, cast

import msgspec

KEYWORD = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def value_of(text: str, *, as_text: bool = False) -> Any:
    """Return the value of an argument.

    >>> [value_of(text) for text in ("1", '"1"', "one", "[1, null]", "true", "NaN", "")]
    [1, '1', 'one', [1, None], True, 'NaN', '']
    >>> value_of("1", as_text=True)
    '1'
    """
    if as_text:
        return text
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def arguments_of(
    words: tuple[str, ...], read: Callable[[], Any], *, as_text: bool = False
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call; `read` returns the value for `-`.

    >>> arguments_of(("1", "x=2", "name=-"), lambda: "read")
    ([1], {'x': 2, 'name': 'read'})
    """
    args, kwargs = list[Any](), dict[str, Any]()
    for word in words:
        found = KEYWORD.fullmatch(word)
        text = found[2] if found else word
        value = read() if text == "-" else value_of(text, as_text=as_text)
        if found:
            kwargs[found[1]] = value
        else:
            args.append(value)
    return args, kwargs


def as_json(value: Any) -> bytes:
    """Return a value as JSON, on one line.

    >>> as_json({1: b"abc", "x": (1.5, {2}, float("nan"))})
    b'{"1":"YWJj","x":[1.5,[2],null]}'
    >>> as_json({(1, 2): len})
    b'{"(1, 2)":"<built-in function len>"}'
    """
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return json.dumps(_all_plain(value, 100), separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """Return what msgspec cannot encode in plain types.

    Arrays and numbers of NumPy become lists and numbers, a table becomes its rows, and everything else its repr.
    """
    to_list = getattr(value, "tolist", None) or getattr(value, "to_pylist", None)
    return to_list() if to_list is not None else _shown(value)


def _all_plain(value: Any, depth: int) -> Any:
    """Return a value in plain types, the slow way: for keys that JSON cannot have, invalid text, endless nesting."""
    if not depth:
        return _shown(value)
    if isinstance(value, Mapping):
        entries = cast(Mapping[Any, Any], value).items()
        return {key if isinstance(key, str) else str(key): _all_plain(each, depth - 1) for key, each in entries}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_all_plain(each, depth - 1) for each in cast("list[Any]", value)]
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return cast(Any, value)
    try:
        return msgspec.to_builtins(value, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _shown(value)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  `repr` is foreign code, and may exceed the recursion limit
        return f"<{type(value).__name__}>"


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
