"""Access to the dashboard, in tables of hosts, origins and tokens."""

from __future__ import annotations

import pytest

from mob.dashboard.guard import ACT, HEADERS, OPEN, PROBE, READ, Guard

TOKEN = "a-token-of-some-length"
HERE = Guard("127.0.0.1", 4777, TOKEN)
ANYWHERE = Guard("0.0.0.0", 4777, TOKEN)
COOKIE = ANYWHERE.cookie.partition(";")[0]
OUR_HOST = {"host": "127.0.0.1:4777"}


def status(guard: Guard, purpose: str, method: str = "GET", **headers: str) -> int:
    """Return the status of a request that is valid except for the given parts; 200 if it is not refused."""
    named = {**OUR_HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
    refusal = guard.refusal(purpose, method, named)
    return 200 if refusal is None else refusal.status


HOSTS = {
    "127.0.0.1:4777": 200,
    "localhost:4777": 200,
    "LOCALHOST:4777": 200,
    "[::1]:4777": 200,
    "127.8.9.1:4777": 200,
    "127.0.0.1": 403,
    "127.0.0.1:4778": 403,
    "localhost": 403,
    "evil.example:4777": 403,
    "localhost.evil.example:4777": 403,
    "127.0.0.1.evil.example:4777": 403,
    "127.0.0.1:4777@evil.example": 403,
    "evil.example@127.0.0.1:4777": 403,
    "127.0.0.1:4777/x": 403,
    "127.0.0.1:x": 403,
    "[::1:4777": 403,
    "0x7f.1:4777": 403,
    "10.0.0.1:4777": 403,
    "": 403,
}


@pytest.mark.parametrize("number", range(len(HOSTS)))
@pytest.mark.parametrize("purpose", [OPEN, READ, PROBE])
def test_on_the_loopback_only_its_names_are_ours(purpose: str, number: int) -> None:
    host, expected = list(HOSTS.items())[number]
    assert status(HERE, purpose, host=host) == expected, host


def test_port_80_need_not_be_said() -> None:
    assert Guard("::1", 80, TOKEN).refusal(READ, "GET", {"host": "localhost"}) is None


def test_a_request_without_a_host_is_refused() -> None:
    assert HERE.refusal(READ, "GET", {}) is not None
    assert ANYWHERE.refusal(OPEN, "GET", {}) is not None


def test_a_wrong_host_is_told_where_it_is_and_how_tunnels_go() -> None:
    refusal = HERE.refusal(READ, "GET", {"host": "127.0.0.1:5000"})
    assert refusal is not None
    assert "http://127.0.0.1:4777/, but was requested as '127.0.0.1:5000'" in refusal.text
    assert "ssh -L 4777:127.0.0.1:4777" in refusal.text


ORIGINS = {
    "http://127.0.0.1:4777": 200,
    "https://127.0.0.1:4777": 200,
    "HTTP://127.0.0.1:4777": 403,
    "http://localhost:4777": 403,
    "http://127.0.0.1:8888": 403,
    "http://127.0.0.1": 403,
    "http://evil.example": 403,
    "http://127.0.0.1:4777.evil.example": 403,
    "file://127.0.0.1:4777": 403,
    "null": 403,
    "": 403,
}


@pytest.mark.parametrize("number", range(len(ORIGINS)))
@pytest.mark.parametrize(("purpose", "method"), [(OPEN, "GET"), (READ, "GET"), (ACT, "POST")])
def test_only_our_own_page_may_ask(purpose: str, method: str, number: int) -> None:
    origin, expected = list(ORIGINS.items())[number]
    assert status(HERE, purpose, method, origin=origin, x_mob_token=TOKEN) == expected, origin
    assert status(ANYWHERE, purpose, method, origin=origin, x_mob_token=TOKEN) == expected, origin


SITES = [
    (READ, "same-origin", "cors", 200),
    (READ, "none", "navigate", 200),
    (READ, "same-site", "no-cors", 403),
    (READ, "cross-site", "no-cors", 403),
    (READ, "cross-site", "navigate", 403),
    (OPEN, "cross-site", "navigate", 200),
    (OPEN, "cross-site", "no-cors", 403),
    (ACT, "cross-site", "navigate", 403),
    (ACT, "same-site", "cors", 403),
]


@pytest.mark.parametrize(("purpose", "site", "mode", "expected"), SITES)
def test_what_browsers_say_of_who_asks_is_heeded(purpose: str, site: str, mode: str, expected: int) -> None:
    method = "POST" if purpose == ACT else "GET"
    headers = {"sec_fetch_site": site, "sec_fetch_mode": mode, "x_mob_token": TOKEN}
    assert status(HERE, purpose, method, **headers) == expected


WRONG = TOKEN[:-1] + "x"
TOKENS = [
    # what is shown, reading here, reading from anywhere, acting (anywhere)
    ({}, 200, 401, 401),
    ({"x_mob_token": TOKEN}, 200, 200, 200),
    ({"authorization": f"Bearer {TOKEN}"}, 200, 200, 200),
    ({"authorization": f"bearer {TOKEN}"}, 200, 200, 200),
    ({"authorization": f"Basic {TOKEN}"}, 200, 401, 401),
    ({"authorization": TOKEN}, 200, 401, 401),
    ({"x_mob_token": WRONG}, 200, 401, 401),
    ({"x_mob_token": ""}, 200, 401, 401),
    ({"x_mob_token": "ä"}, 200, 401, 401),
    ({"x_mob_token": TOKEN + "x"}, 200, 401, 401),
    ({"cookie": COOKIE}, 200, 200, 401),
    ({"cookie": f"other=1; {COOKIE}; more=2"}, 200, 200, 401),
    ({"cookie": f"mob_dashboard_4777={TOKEN}"}, 200, 401, 401),
    ({"cookie": "mob_dashboard_4777="}, 200, 401, 401),
    ({"cookie": COOKIE.replace("4777", "4778")}, 200, 401, 401),
    ({"x_mob_token": COOKIE.partition("=")[2]}, 200, 401, 401),
]


@pytest.mark.parametrize(("shown", "here", "anywhere", "acting"), TOKENS, ids=range(len(TOKENS)))
def test_the_token(shown: dict[str, str], here: int, anywhere: int, acting: int) -> None:
    assert status(HERE, READ, **shown) == here
    assert status(ANYWHERE, READ, **shown) == anywhere
    assert status(ANYWHERE, ACT, "POST", **shown) == acting
    assert status(HERE, ACT, "POST", **shown) == acting
    assert status(ANYWHERE, OPEN, **shown) == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_actions_are_asked_for_by_post_only(method: str) -> None:
    assert status(HERE, ACT, method, x_mob_token=TOKEN) == 405


def test_the_cookie_is_for_our_page_alone_and_does_not_tell_the_token() -> None:
    assert ANYWHERE.cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert TOKEN not in ANYWHERE.cookie
    assert TOKEN not in repr(ANYWHERE)


def test_no_answer_invites_other_origins_or_inline_scripts() -> None:
    assert not [name for name in HEADERS if name.lower().startswith("access-control")]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    assert HEADERS["Content-Security-Policy"].startswith("default-src 'self';")
