"""What is said of a role that serves HTTP: the address, the name of the application, the options of its server.

Text and plain data only, checked where the line that is wrong stands. The server itself, uvicorn, is known to the
mobsters alone (`mobster/http/server.py`): what it does not know as an option, they refuse when they start. Floor 0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from mob.errors import PlanError

APPLICATION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\(\))?")
UNIX = "unix:"
WANTED = "'127.0.0.1:8000', ':8000', '[::1]:8000' or 'unix:./web.sock'"

OURS: dict[str, str] = {
    "app": "it is named after the module, as in 'shop:app'",
    "factory": "a function that makes the application is written with parentheses, as in 'shop:make_app()'",
    "host": "the address is serve=",
    "port": "the address is serve=",
    "uds": "a Unix socket is serve='unix:./web.sock'",
    "fd": "sockets of a service manager are found by their address, serve=",
    "backlog": "the queue is the Kingpin's, and as long as the system allows",
    "loop": "it is mob's own loop, uvloop",
    "workers": "that is workers= of the role",
    "reload": "`mob run --watch` reloads when a file changes",
    "reload_dirs": "`mob run --watch` reloads when a file changes",
    "reload_delay": "`mob run --watch` reloads when a file changes",
    "reload_includes": "`mob run --watch` reloads when a file changes",
    "reload_excludes": "`mob run --watch` reloads when a file changes",
    "env_file": "variables are env= of the role",
    "log_config": "what the server says goes to `logging`, as all in a mobster does",
    "use_colors": "the Kingpin writes the lines",
    "limit_max_requests": "max_age= and max_memory= replace a worker when its successor is there",
    "limit_max_requests_jitter": "max_age= and max_memory= replace a worker when its successor is there",
    "timeout_graceful_shutdown": "that is grace= of mob.start",
    "timeout_worker_healthcheck": "the Kingpin sees to that: hang_timeout= of the role",
    "timeout_notify": "mob has no use for it",
    "callback_notify": "a function cannot be sent to another process",
    "ssl_context_factory": "a function cannot be sent to another process; ssl_certfile= and its like name files",
}
"""What mob decides itself of the options of uvicorn, and what to say instead."""
FILES = ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs")
"""Options that name a file; a relative one is below the base."""


class Address(NamedTuple):
    """Where connections come in: a host and a port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""


def address_of(text: object) -> Address:
    """The address that a text names; `PlanError` if it names none.

    >>> address_of("127.0.0.1:8000")
    Address(host='127.0.0.1', port=8000, path='')
    >>> address_of("unix:web.sock").path
    'web.sock'
    """
    if isinstance(text, str) and text.startswith(UNIX) and len(text) > len(UNIX):
        return Address(path=text.removeprefix(UNIX))
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 0xFFFF or "/" in host:
        raise PlanError(f"serve={text!r} is no address. Wanted: {WANTED}.")
    if ":" in host and not is_bracketed:
        raise PlanError(f"serve={text!r} is no address: a host of IPv6 stands in brackets. Wanted: {WANTED}.")
    return Address(host[1:-1] if is_bracketed else host, int(port))


def split(module: str) -> tuple[str, str]:
    """The module, and the name of the application in it; "" if none is said.

    >>> split("./shop.py:make_app()")
    ('./shop.py', 'make_app()')
    """
    path, colon, application = module.rpartition(":")
    return (path, application) if colon and APPLICATION.fullmatch(application) else (module, "")


def check(module: str, application: str, address: object, options: object) -> None:
    """Whether a role is served in a way that makes sense; `PlanError` tells what does not."""
    if address is None:
        if application:
            raise PlanError(
                f"{application!r} is named as an application, but where it is served is not said. Wanted: "
                f"serve='127.0.0.1:8000' beside it, or just the module, {module!r}."
            )
        if options:
            raise PlanError("serve_options= is there, but serve= is not. Wanted: serve='127.0.0.1:8000' beside it.")
        return
    address_of(address)
    if not application:
        raise PlanError(
            f"serve={address!r} wants to know which object of {module!r} is the application. Wanted: its name behind a "
            f"colon, '{module}:app', or '{module}:make_app()' if a function makes it."
        )
    _check_options(options)


def below(base: str, address: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The same, with paths that begin at the base."""
    path = address_of(address).path
    where = UNIX + os.path.join(base, path) if path and not path.startswith("\0") else address
    files = {name: os.path.join(base, str(options[name])) for name in FILES if options.get(name)}
    return os.path.normpath(where) if path else where, {**options, **files}


def _check_options(options: object) -> None:
    if not isinstance(options, dict):
        raise PlanError(f"serve_options={options!r} is not a dict, such as {{'access_log': True}}.")
    for name, value in cast(dict[object, object], options).items():
        if name in OURS:
            raise PlanError(f"serve_options: {name!r} is not to be set here: {OURS[str(name)]}.")
        is_path = name in FILES and hasattr(value, "__fspath__")
        if not isinstance(name, str) or not (is_path or _is_plain(value)):
            raise PlanError(
                f"serve_options: {name}={value!r} cannot be sent to another process. Wanted: text, numbers, lists."
            )


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, cast(list[object], value)))
    return value is None or isinstance(value, bool | int | float | str)
