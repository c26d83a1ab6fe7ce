"""The `environ` of PEP 3333, which a WSGI application gets for its request, made from an ASGI scope.

Two rules keep forged headers out. A header with an underscore in its name is dropped, because `X_Remote_User` and
`X-Remote-User` would have the same key and a proxy removes only the one that it sets. A repeated header is joined with
commas, cookies with semicolons, so no value is lost and none hides another.

Text is Latin-1 as PEP 3333 demands: one character for each byte of the request. Pure: no I/O, no state.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from mob.mobster.http.sending import FileWrapper

SOFTWARE = "mob"
DEFAULT_PORTS = {"http": "80", "https": "443"}
KEYS = {
    name: "HTTP_" + name.decode().upper().replace("-", "_")
    for name in (
        b"accept", b"accept-encoding", b"accept-language", b"authorization", b"cache-control", b"connection", b"cookie",
        b"host", b"if-modified-since", b"if-none-match", b"origin", b"priority", b"range", b"referer", b"user-agent",
        b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"x-request-id",
    )
} | {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}  # fmt: skip
"""The keys of common headers, so that they are not built for each request."""


def lasting(threads: int, is_multiprocess: bool) -> dict[str, Any]:
    """Return the part of an environ that is the same for all requests of a worker."""
    return {
        "SERVER_SOFTWARE": SOFTWARE,
        "wsgi.version": (1, 0),
        "wsgi.multithread": threads > 1,
        "wsgi.multiprocess": is_multiprocess,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
    }


def environ_of(scope: Any, body: Any, length: int, base: dict[str, Any]) -> dict[str, Any]:
    """Return the environ of a request.

    `scope`: the ASGI scope, with the target of the request as it was sent under "mob.target". `body`: a file with the
    body. `length`: the bytes in that file; the application gets it if the body was sent in chunks. `base`: the result
    of `lasting`.
    """
    root = scope["root_path"]
    target: bytes = scope["mob.target"]
    path, _, query = target.partition(b"#")[0].partition(b"?")
    if not path.startswith(b"/"):  # "GET http://host/path", the form for proxies
        path = scope["raw_path"][len(root) :]
    elif path.startswith(b"//"):  # used as a URL, it would begin a host name
        path = b"/" + path.lstrip(b"/")
    uri = target.decode("latin-1")
    environ = {
        **base,
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root.encode().decode("latin-1") if root else "",
        "PATH_INFO": (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "REQUEST_URI": uri,
        "RAW_URI": uri,
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
    }
    _add_headers(environ, scope["headers"])
    if environ.pop("HTTP_TRANSFER_ENCODING", None) is not None:  # the chunks are joined here
        environ["CONTENT_LENGTH"] = str(length)
    _add_ends(environ, scope["server"], scope["client"])
    return environ


def _add_headers(environ: dict[str, Any], headers: Iterable[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        key = KEYS.get(name)
        if key is None:
            if b"_" in name:
                continue
            key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.strip(b" \t").decode("latin-1")
        if key in environ and key != "CONTENT_TYPE":
            text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}"
        environ[key] = text


def _add_ends(environ: dict[str, Any], server: tuple[str, int | None] | None, client: tuple[str, int] | None) -> None:
    """Add the addresses of both ends.

    Those of a Unix socket say nothing, so the server is taken from the request, and the client is "" unless a proxy
    names it.
    """
    if server is not None and server[1] is not None:
        environ["SERVER_NAME"], environ["SERVER_PORT"] = server[0], str(server[1])
    else:
        host, colon, port = environ.get("HTTP_HOST", "").rpartition(":")
        if not colon or not port.isdigit():
            host, port = environ.get("HTTP_HOST", ""), DEFAULT_PORTS.get(environ["wsgi.url_scheme"], "")
        environ["SERVER_NAME"], environ["SERVER_PORT"] = host or (server or ("localhost",))[0], port
    environ["REMOTE_ADDR"] = client[0] if client else ""
    if client and client[1]:  # a proxy does not name the port
        environ["REMOTE_PORT"] = str(client[1])
