"""The listening sockets of a role with `serve=`, and the line that names them.

`bind` asks the Kingpin for the shared sockets (`rim/listeners.py`). No host, "localhost", or a name may stand for
several IPv4 and IPv6 addresses: a client uses whichever it finds first, so all of them are served. On a system without
IPv6, IPv4 is enough.

The mode of a Unix socket's file decides who may connect: 0666 unless the address gives another, as in uvicorn, because
a proxy runs as another user. Each worker checks the file when it starts, so a new mode or owner needs only a reload.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence

from mob import serve
from mob.errors import PlanError
from mob.mobster import api
from mob.rim.listeners import BACKLOG, file_mode

ANY = ("0.0.0.0", "::")
LOCAL = ("127.0.0.1", "::1")
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)
"""Error codes of a system without IPv6, or without it on that interface."""


def bound(address: serve.Address) -> list[socket.socket]:
    """Return the shared sockets of that address; `OSError` if it is not available."""
    if not address.path:
        return _bound_to_all(_hosts(address.host), address.port)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with file_mode(address.mode):
        sock.bind(address.path)
    if not address.path.startswith("\0"):
        _admit(address)
    return [sock]


def text_of(address: serve.Address, socks: Sequence[socket.socket], is_ssl: bool) -> str:
    """Return where these sockets listen, as a URL for people and browsers."""
    scheme = "https" if is_ssl else "http"
    urls: list[str] = []
    for sock in socks:
        name = sock.getsockname()
        if isinstance(name, str):
            return serve.UNIX + name
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        urls.append(f"{scheme}://{host}:{name[1]}")
    if len(socks) > 1 and address.host == "localhost":
        return f"{scheme}://localhost:{socks[0].getsockname()[1]}"
    return " and ".join(urls)


def _hosts(host: str) -> list[str]:
    """Return the addresses of a host, IPv4 first. `gaierror` if it is unknown."""
    if not host:
        return list(ANY)
    if host == "localhost":
        return list(LOCAL)
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    hosts = dict.fromkeys(_host_of(sockaddr[0], sockaddr[3:]) for *_, sockaddr in found)
    return sorted(hosts, key=lambda each: ":" in each)


def _host_of(host: str | int, rest: Sequence[object]) -> str:
    """Return the numeric address of a host; a link-local one with its interface."""
    is_scoped = bool(rest) and rest[0] != 0 and "%" not in str(host)
    return f"{host}%{rest[0]}" if is_scoped else str(host)


def _bound_to_all(hosts: list[str], port: int) -> list[socket.socket]:
    """Return a socket for each of these addresses, all with the same port.

    IPv6 comes first, because a service manager may have opened a socket that takes IPv4, too; a free port is chosen for
    IPv4.
    """
    if len(hosts) == 1:
        return [api.listen(hosts[0], port, backlog=BACKLOG)]
    found: dict[str, socket.socket] = {}
    try:
        for host in hosts if port == 0 else reversed(hosts):
            if "." in host and any(_takes_ipv4(sock) for sock in found.values()):
                continue
            number = port or next((sock.getsockname()[1] for sock in found.values()), 0)
            if (sock := _bound_if_there(host, number, is_free=port == 0 and bool(found))) is not None:
                found[host] = sock
    except BaseException:
        for sock in found.values():
            sock.close()
        raise
    if not found:
        return [api.listen(hosts[0], port, backlog=BACKLOG)]  # raises the reason
    return [found[host] for host in hosts if host in found]


def _bound_if_there(host: str, port: int, is_free: bool) -> socket.socket | None:
    """Return the socket of an address; None for IPv6 on a system without it.

    If the system chose the port for IPv4 (`is_free`), also return None if another program has it for IPv6.
    """
    if ":" not in host:
        return api.listen(host, port, backlog=BACKLOG)
    lacking = (*NO_IPV6, errno.EADDRINUSE) if is_free else NO_IPV6
    sock: socket.socket | None = None
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        if error.errno in lacking:
            return None
        raise
    return sock


def _takes_ipv4(sock: socket.socket) -> bool:
    """Return whether this is a socket for all IPv6 addresses that accepts IPv4 connections, too."""
    with contextlib.suppress(OSError):
        is_any = sock.family == socket.AF_INET6 and sock.getsockname()[0] == "::"
        return is_any and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return False


def _admit(address: serve.Address) -> None:
    """Give the socket file the owner and the mode of the address."""
    path, uid, gid = address.path, serve.uid_of(address.user), serve.gid_of(address.group)
    there = os.stat(path)
    try:
        if uid not in (-1, there.st_uid) or gid not in (-1, there.st_gid):
            os.chown(path, uid, gid)
        if stat.S_IMODE(there.st_mode) != address.mode:
            os.chmod(path, address.mode)
    except PermissionError as error:
        owner = [f"{name}={value}" for name, value in (("user", address.user), ("group", address.group)) if value]
        raise PlanError(
            f"serve='unix:{path}': cannot set {' and '.join(owner) or f'mode={address.mode:o}'} on the file: "
            f"{error.strerror}. Only root can give a file to another user, or to a group that it does not belong to. "
            f"Run as root, choose a group of this user, or leave that out and use mode=666."
        ) from error
