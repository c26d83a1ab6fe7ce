"""Messages about values that cannot be sent: what the value is, what to do instead, and where it sits.

Strategy. A refusal names things in the user's words ("an open file", "a thread lock") and gives a useful hint;
`_NOUNS` lists the types that people send by mistake.

Limits. Never calls anything of the value itself: its repr may be huge, secret or broken.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

from mob.wire.kinds import MAX_INT


class UnsendableValue(Exception):
    """A reason why a value cannot be sent; the walk adds where it sits."""


_FILE = ("an open file", "Send its path or its content.")
_TLS = "Its keys are in this process: send the plain socket before it is wrapped, and wrap it in the receiving process."
_DUP = "Send a duplicate of its socket, .get_extra_info('socket').dup(), before anything is read, and close it here."
_TRANSPORT = ("an asyncio connection", _DUP)
_TLS_TRANSPORT = ("an asyncio TLS connection", _TLS)
_LOOPS_SOCKET = ("a socket that belongs to an event loop", "Send its duplicate: .dup().")
_SERVER = ("an asyncio server", "Send a duplicate of its socket: .sockets[0].dup().")
_TASK = ("an unfinished result", "Await it, and send its result.")
_FUTURE = ("an unfinished result", "Send its .result().")
_CALL = "mob.peer.results.call.Call"
_NOUNS: Mapping[str, tuple[str, str]] = {
    "_thread.lock": ("a thread lock", ""),
    "_thread.RLock": ("a thread lock", ""),
    **dict.fromkeys(("_io.TextIOWrapper", "_io.BufferedReader", "_io.BufferedWriter", "_io.BufferedRandom"), _FILE),
    **dict.fromkeys(("_io.FileIO", "tempfile._TemporaryFileWrapper"), _FILE),
    **dict.fromkeys(("_asyncio.Task", "_asyncio.Future", "asyncio.futures.Future"), _TASK),
    "concurrent.futures._base.Future": _FUTURE,
    "ssl.SSLSocket": ("a TLS socket", _TLS),
    **dict.fromkeys(("asyncio.sslproto._SSLProtocolTransport", "uvloop.loop._SSLProtocolTransport"), _TLS_TRANSPORT),
    **dict.fromkeys(("asyncio.streams.StreamWriter", "asyncio.transports.BaseTransport"), _TRANSPORT),
    "uvloop.loop.UVBaseTransport": _TRANSPORT,
    **dict.fromkeys(("asyncio.trsock.TransportSocket", "uvloop.loop.PseudoSocket"), _LOOPS_SOCKET),
    **dict.fromkeys(("asyncio.base_events.Server", "uvloop.loop.Server"), _SERVER),
    "module": ("a module", "Send its name."),
}


def complaint(value: Any, kind: type) -> str:
    """Return why a value cannot be sent, and what to do about it."""
    name = _name(kind)
    if forgotten := _forgotten(value, kind):
        return forgotten
    known = next((_NOUNS[base] for base in map(_name, kind.__mro__) if base in _NOUNS), None)
    noun, hint = known or (f"an object of type {name}", "")
    if isinstance(value, type | types.GenericAlias):
        noun, hint = "a class", "Send its name."
    elif isinstance(value, BaseException):
        noun, hint = "an exception", "Raise it, or send its text."
    shown = noun if name in noun else f"{noun} ({name})"
    return f"{shown} is not data. {hint or 'Send what it describes, or register the type with mob.register(...).'}"


def _forgotten(value: Any, kind: type) -> str:
    """Return the complaint about a value that was not awaited; "" if it is not awaitable, or listed in `_NOUNS`."""
    names = [_name(base) for base in kind.__mro__]
    if _CALL in names:
        if getattr(value, "incoming", None) is not None:
            return f"the stream {value.label}() is not data. Send what it yields, or iter(...) of it."
        return f"the call {value.label}() is not data. Await it, or send its .result()."
    if kind is types.CoroutineType:
        return f"the coroutine {value.__qualname__}() is not data. {_TASK[1]}"
    if hasattr(kind, "__await__") and not any(name in _NOUNS for name in names):
        return f"an awaitable ({names[0]}) is not data. {_TASK[1]}"
    return ""


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def brief(key: Any) -> str:
    """Return a key as it appears in a path; only keys of built-in types are shown by their repr."""
    is_plain = type(key) in (str, float, bool, bytes, types.NoneType) or (type(key) is int and -MAX_INT < key < MAX_INT)
    text = repr(key) if is_plain else f"<{type(key).__name__}>"
    return text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}"


def text_of(failure: BaseException) -> str:
    """Return type and text of an exception, even if its `__str__` fails."""
    try:
        return f"{type(failure).__name__}: {failure}".removesuffix(": ")
    except Exception:  # noqa: BLE001  a broken __str__
        return type(failure).__name__
