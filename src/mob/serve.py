"""The description of a role that serves HTTP: the address, the name of the application, the options of the server.

Text and plain data only, checked in the line that states it. Only the mobsters know the server itself, uvicorn
(`mobster/http/server.py`): they refuse options that it does not know when they start. Floor 0.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from mob import serve_options
from mob.errors import PlanError, nearest

APPLICATION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\(\))?")
UNIX = "unix:"
MODE = re.compile(r"(0o)?0?[0-7]{3}")
UNIX_WANTED = "'unix:./web.sock?mode=660&user=www-data&group=www-data', all three optional"
WANTED = "'127.0.0.1:8000', 'localhost:8000', ':8000', '[::1]:8000' or 'unix:./web.sock'"

OURS: dict[str, str] = {
    "app": "it is named after the module, as in 'shop:app'",
    "factory": "a function that makes the application is written with parentheses, as in 'shop:make_app()'",
    "host": "the address is serve=",
    "port": "the address is serve=",
    "uds": "a Unix socket is serve='unix:./web.sock'",
    "fd": "sockets of a service manager are found by their address: serve=",
    "backlog": "the Kingpin's queue is as long as the system allows",
    "loop": "it is mob's own loop, uvloop",
    "workers": "use workers= of the role",
    "reload": "`mob run --watch` reloads when a file changes",
    "reload_dirs": "`mob run --watch` reloads when a file changes",
    "reload_delay": "`mob run --watch` reloads when a file changes",
    "reload_includes": "`mob run --watch` reloads when a file changes",
    "reload_excludes": "`mob run --watch` reloads when a file changes",
    "env_file": "use env= of the role",
    "log_config": "the server logs to `logging`, as everything in a mobster does",
    "use_colors": "the Kingpin writes the lines",
    "limit_max_requests": "use max_age= and max_memory= of the role: the successor starts first",
    "limit_max_requests_jitter": "use max_age= and max_memory= of the role: the successor starts first",
    "timeout_graceful_shutdown": "use grace= of mob.start",
    "timeout_worker_healthcheck": "the Kingpin does that: use hang_timeout= of the role",
    "timeout_notify": "mob does not use it",
    "callback_notify": "a function cannot be sent to another process",
    "ssl_context_factory": "a function cannot be sent to another process; use ssl_certfile= and the like",
}
"""Options of uvicorn that cannot be set, because mob decides them, and what to use instead."""
FILES = ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs")
"""Options that name a file; a relative path is below the base."""


class Address(NamedTuple):
    """An address to serve: a host and a port, or the path of a Unix socket and who may connect to it."""

    host: str = ""
    port: int = 0
    path: str = ""
    mode: int = 0o666
    """Permissions of the socket file; a process that may write to it can connect."""
    user: str = ""
    """Owner of the file; "" for the user of the app."""
    group: str = ""
    """Group of the file; "" for the group of the app."""


def address_of(text: object) -> Address:
    """Return the address that a text names; raise `PlanError` if it is not one.

    >>> address_of("127.0.0.1:8000")
    Address(host='127.0.0.1', port=8000, path='', mode=438, user='', group='')
    >>> oct(address_of("unix:web.sock?mode=660").mode)
    '0o660'
    """
    if isinstance(text, str) and text.startswith(UNIX) and len(text) > len(UNIX):
        path, mark, options = text.removeprefix(UNIX).partition("?")
        if path:
            return Address(path=path, **_unix_options(text, options) if mark else {})
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 0xFFFF or "/" in host:
        raise PlanError(f"serve={text!r} is not an address{_fault(text, host, port)}. Expected: {WANTED}.")
    if ":" in host and not is_bracketed:
        raise PlanError(f"serve={text!r} is not an address: an IPv6 host needs brackets. Expected: {WANTED}.")
    return Address(host[1:-1] if is_bracketed else host, int(port))


def _fault(text: object, host: str, port: str) -> str:
    """Return what is wrong with an address, if it is one of the usual mistakes."""
    if not isinstance(text, str):
        return ""
    if "://" in text:
        return f": leave out {text.partition('://')[0]}://"
    if text.isascii() and text.isdigit():
        return f": did you mean ':{text}'?"
    if port.isascii() and port.isdigit() and "/" not in host:
        return ": the highest port is 65535"
    return ""


def _unix_options(text: str, options: str) -> dict[str, Any]:
    """Return the options behind the path of a Unix socket, as fields of its address."""
    found: dict[str, Any] = {}
    for option in options.split("&"):
        name, _, value = option.partition("=")
        if name not in ("mode", "user", "group"):
            hint = nearest(name, ["mode", "user", "group"])
            raise PlanError(f"serve={text!r}: a Unix socket has no option {name!r}. {hint} Expected: {UNIX_WANTED}.")
        if name in found:
            raise PlanError(f"serve={text!r}: {name}= is given twice. Expected: {UNIX_WANTED}.")
        if not value:
            raise PlanError(f"serve={text!r}: {name}= has no value. Expected: {UNIX_WANTED}.")
        if name == "mode" and not MODE.fullmatch(value):
            raise PlanError(
                f"serve={text!r}: mode={value} is not a file mode. Expected: three octal digits, as in chmod: mode=660 "
                f"for the user and the group, mode=666 for everybody (the default)."
            )
        found[name] = int(value.removeprefix("0o"), 8) if name == "mode" else value
    _check_owner(text, found.get("user", ""), found.get("group", ""))
    return found


def _check_owner(text: str, user: str, group: str) -> None:
    try:
        uid_of(user)
    except KeyError:
        hint = _similar(user, [each.pw_name for each in pwd.getpwall()])
        raise PlanError(
            f"serve={text!r}: this system has no user {user!r}.{hint} "
            f"Expected: the name of a user, as listed by `getent passwd`, or a number."
        ) from None
    try:
        gid_of(group)
    except KeyError:
        hint = _similar(group, [each.gr_name for each in grp.getgrall()])
        raise PlanError(
            f"serve={text!r}: this system has no group {group!r}.{hint} "
            f"Expected: the name of a group, as listed by `getent group`, or a number."
        ) from None


def uid_of(user: str) -> int:
    """Return the number of a user, -1 for ""; raise `KeyError` if there is no such user."""
    return -1 if not user else int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid


def gid_of(group: str) -> int:
    """Return the number of a group, -1 for ""; raise `KeyError` if there is no such group."""
    return -1 if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid


def _similar(name: str, names: list[str]) -> str:
    """Return the question whether a similar name was meant, or ""; never a list of all, which may be thousands."""
    hint = nearest(name, names)
    return f" {hint}" if hint.startswith("Did") else ""


def split(module: str) -> tuple[str, str]:
    """Return the module, and the name of the application in it; "" if none is given.

    >>> split("./shop.py:make_app()")
    ('./shop.py', 'make_app()')
    """
    path, colon, application = module.rpartition(":")
    return (path, application) if colon and APPLICATION.fullmatch(application) else (module, "")


def check(module: str, application: str, address: object, options: object) -> None:
    """Raise `PlanError` if a role that serves HTTP is not described correctly."""
    if address is None:
        if application:
            raise PlanError(
                f"{application!r} is named as an application, but serve= does not say where it is served. Expected: "
                f"serve='127.0.0.1:8000' as well, or just the module, {module!r}."
            )
        if options:
            raise PlanError("serve_options= is given, but serve= is not. Expected: serve='127.0.0.1:8000' as well.")
        return
    address_of(address)
    if not application:
        raise PlanError(
            f"serve={address!r} is given, but not which object of {module!r} is the application. Expected: its name "
            f"behind a colon, '{module}:app', or '{module}:make_app()' if a function makes it."
        )
    _check_options(options)


def below(base: str, address: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the address and the options with their paths below the base."""
    path, where = address_of(address).path, address
    if path and not path.startswith("\0"):
        _, mark, rest = address.partition("?")
        where = UNIX + os.path.normpath(os.path.join(base, path)) + mark + rest
    files = {name: os.path.join(base, str(options[name])) for name in FILES if options.get(name)}
    return where, {**options, **files}


def _check_options(options: object) -> None:
    if not isinstance(options, dict):
        raise PlanError(f"serve_options={options!r} is not a dict, such as {{'access_log': True}}.")
    for name, value in cast(dict[object, object], options).items():
        if name in OURS:
            raise PlanError(f"serve_options: {name!r} cannot be set: {OURS[str(name)]}.")
        serve_options.check(name, value)
        is_path = name in FILES and hasattr(value, "__fspath__")
        if not isinstance(name, str) or not (is_path or _is_plain(value)):
            raise PlanError(
                f"serve_options: {name}={value!r} cannot be sent to another process. Expected: text, numbers, lists."
            )


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, cast(list[object], value)))
    return value is None or isinstance(value, bool | int | float | str)
