"""Access rules: decided from the head of a request alone, before anything else looks at it.

A browser sends requests for any page that is open in it, so a loopback address proves nothing. Three things keep other
pages out: the Host must be ours (a name that was made to point here afterwards is not); the Origin and Sec-Fetch-Site,
if sent, must say that the request comes from our own page; and whatever changes anything needs the token in a header,
which no form and no foreign script can send without a preflight request, and preflight requests are refused.

On a loopback address reading needs no token: any user of this machine may read. Elsewhere it needs the token, or the
cookie that is given in return for it; the cookie alone never allows an action, and the token cannot be derived from it.

Pure: no I/O, no clock. The result is a refusal or None.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

from mob.plan import is_loopback

READ, ACT, OPEN, PROBE = "read", "act", "open", "probe"
"""The purpose of a path: it shows the app; it changes the app; it is the empty page, the same in every copy of mob; or
it says whether the app is well, for programs that cannot log in."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every response."""


class Refusal(NamedTuple):
    """The reason why a request is refused, as an HTTP status and a text."""

    status: int
    text: str


class Guard:
    """The access rules of one dashboard."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self.port = port
        self.is_local: bool = is_loopback(host)
        self._token = token.encode()
        self._proof = hmac.new(self._token, b"mob dashboard: may read", sha256).hexdigest()

    def __repr__(self) -> str:
        return f"<Guard of port {self.port}, {'loopback' if self.is_local else 'any host'}>"

    @property
    def cookie_name(self) -> str:
        """Name of the cookie, with the port, because cookies are not separated by port."""
        return f"mob_dashboard_{self.port}"

    @property
    def cookie(self) -> str:
        """Value of Set-Cookie for a browser that showed the token."""
        return f"{self.cookie_name}={self._proof}; Path=/; HttpOnly; SameSite=Strict"

    def refusal(self, purpose: str, method: str, headers: Mapping[str, str]) -> Refusal | None:
        """Return why a request is refused, None if it is not. `headers` has names in lower case."""
        host = headers.get("host", "")
        if not self._is_our_host(host):
            return Refusal(403, self._wrong_host(host))
        origin = headers.get("origin")
        if origin is not None and not _is_same(origin, host):
            return Refusal(403, f"The page of {origin[:100]!r} may not talk to this dashboard; only its own page may.")
        if not _is_of_our_page(purpose, method, headers):
            return Refusal(403, "This request comes from another page. Only the dashboard's own page may send it.")
        if purpose == ACT and method != "POST":
            return Refusal(405, f"{method} is not allowed here. Use POST for actions.")
        if purpose == ACT and not self.has_token(headers):
            return Refusal(
                401,
                "This needs the token. It is in the URL that the app printed when it started "
                "(dashboard: http://...#token=...); send it in the header X-Mob-Token.",
            )
        if purpose == READ and not self.is_local and not (self.has_token(headers) or self._has_cookie(headers)):
            return Refusal(
                401,
                "This dashboard can be reached from other machines, so it shows nothing without its token. Open the "
                "URL that the app printed when it started, or send the header Authorization: Bearer TOKEN.",
            )
        return None

    def has_token(self, headers: Mapping[str, str]) -> bool:
        """Return whether the request shows the token."""
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            shown = ""
        return any(
            hmac.compare_digest(each.encode(), self._token) for each in (headers.get("x-mob-token", ""), shown.strip())
        )

    def _has_cookie(self, headers: Mapping[str, str]) -> bool:
        for each in headers.get("cookie", "").split(";"):
            name, _, value = each.strip().partition("=")
            if name == self.cookie_name and hmac.compare_digest(value.encode(), self._proof.encode()):
                return True
        return False

    def _is_our_host(self, host: str) -> bool:
        """Return whether the Host is ours: a loopback name with our port, or any name where the token is required."""
        if not self.is_local:
            return bool(host)
        name, port = _split(host)
        return is_loopback(name) and port == self.port

    def _wrong_host(self, host: str) -> str:
        return (
            f"This dashboard is at http://127.0.0.1:{self.port}/, but was requested as {host[:100]!r}. Through a "
            f"tunnel, use the same port at both ends (ssh -L {self.port}:127.0.0.1:{self.port})."
        )


def _split(host: str) -> tuple[str, int]:
    """Return name and port of a Host header; port -1 if it is not valid."""
    try:
        parts = urlsplit(f"http://{host}")
        has_more = parts.path or parts.query or parts.fragment or parts.username is not None
        return ("", -1) if has_more else (parts.hostname or "", parts.port or 80)
    except ValueError:
        return "", -1


def _is_same(origin: str, host: str) -> bool:
    """Return whether a page of that origin was served under this Host. A proxy before us may change the scheme."""
    scheme, _, rest = origin.partition("://")
    return scheme in ("http", "https") and bool(rest) and rest.lower() == host.lower()


def _is_of_our_page(purpose: str, method: str, headers: Mapping[str, str]) -> bool:
    """Return whether a request comes from our page, by the headers that browsers add; a link to us may be anywhere."""
    site = headers.get("sec-fetch-site", "none")
    if site in ("same-origin", "none"):
        return True
    return purpose == OPEN and method == "GET" and headers.get("sec-fetch-mode") == "navigate"
