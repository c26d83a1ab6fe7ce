"""The options of a role that serves HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mob
from mob import serve_options
from mob.errors import PlanError
from mob.serve import Address, address_of, below, split


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", Address("127.0.0.1", 8000)),
        (":8000", Address("", 8000)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:8000", Address("::1", 8000)),
        ("unix:./web.sock", Address(path="./web.sock")),
        ("unix:/run/a b.sock", Address(path="/run/a b.sock")),
        ("unix:web.sock?mode=660", Address(path="web.sock", mode=0o660)),
        ("unix:web.sock?user=root&mode=0600&group=0", Address(path="web.sock", mode=0o600, user="root", group="0")),
    ],
)
def test_an_address(text: str, address: Address) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("8000", ": did you mean ':8000'?"),
        (8000, ""),
        ("", ""),
        ("unix:", ""),
        ("unix:?mode=660", ""),
        ("host:", ""),
        ("host:x", ""),
        ("host:65536", ": the highest port is 65535"),
        ("http://host:80", ": leave out http://"),
        (None, ""),
        ("a:²", ""),
    ],
)
def test_no_address(text: object, fault: str) -> None:
    with pytest.raises(PlanError) as caught:
        address_of(text)
    wanted = "'127.0.0.1:8000', 'localhost:8000', ':8000', '[::1]:8000' or 'unix:./web.sock'"
    assert str(caught.value) == f"serve={text!r} is not an address{fault}. Expected: {wanted}."


def test_ipv6_stands_in_brackets() -> None:
    with pytest.raises(PlanError, match=r"serve='::1:8000' is not an address: an IPv6 host needs brackets"):
        address_of("::1:8000")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("mdoe=660", "a Unix socket has no option 'mdoe'. Did you mean 'mode'? Expected: 'unix:./web.sock?mode=660&"),
        ("mode=660&mode=600", "mode= is given twice."),
        ("mode=", "mode= has no value."),
        ("", "a Unix socket has no option ''."),
        ("mode=rw", "mode=rw is not a file mode. Expected: three octal digits, as in chmod: mode=660"),
        ("mode=689", "mode=689 is not a file mode."),
        ("mode=1777", "mode=1777 is not a file mode."),
        ("user=rooot", "this system has no user 'rooot'. Did you mean 'root'? Expected: the name of a user"),
        ("group=zzzzzzzz", "this system has no group 'zzzzzzzz'. Expected: the name of a group"),
    ],
)
def test_what_stands_behind_a_unix_socket_and_makes_no_sense(options: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        address_of(f"unix:./web.sock?{options}")
    assert f"serve='unix:./web.sock?{options}': {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "parts"),
    [
        ("shop:app", ("shop", "app")),
        ("./shop.py:make_app()", ("./shop.py", "make_app()")),
        ("pkg.shop:site.app", ("pkg.shop", "site.app")),
        ("shop", ("shop", "")),
        ("./with:colon/shop.py", ("./with:colon/shop.py", "")),
    ],
)
def test_the_application_is_named_behind_a_colon(module: str, parts: tuple[str, str]) -> None:
    assert split(module) == parts


@pytest.fixture
def app(tmp_path: Path) -> mob.App:
    """Return an app that is described, and never run."""
    (tmp_path / "shop.py").touch()
    app = mob.start("shop").base(tmp_path)
    app._has_run = True
    return app


def test_a_unix_socket_keeps_its_options_below_the_base(app: mob.App, tmp_path: Path) -> None:
    app.role("web", "./shop.py:app", serve="unix:./run/../web.sock?mode=660&group=0")
    assert app.plan.role("web").serve == f"unix:{tmp_path}/web.sock?mode=660&group=0"


def test_a_role_that_is_served(app: mob.App, tmp_path: Path) -> None:
    options = {
        "ssl_keyfile": Path("key.pem"),
        "ssl_certfile": "/etc/cert.pem",
        "access_log": True,
        "headers": [["a", "b"]],
    }
    app.role("web", "./shop.py:make_app()", serve="unix:./web.sock", serve_options=options)
    role = app.plan.role("web")
    assert (role.module, role.application) == (str(tmp_path / "shop.py"), "make_app()")
    assert role.serve == f"unix:{tmp_path}/web.sock"
    assert role.serve_options == {
        "ssl_keyfile": f"{tmp_path}/key.pem",
        "ssl_certfile": "/etc/cert.pem",
        "access_log": True,
        "headers": [["a", "b"]],
    }


@pytest.mark.parametrize(
    ("module", "options", "said"),
    [
        (
            "shop",
            {"serve": ":8000"},
            "which object of 'shop' is the application. Expected: its name behind a colon, 'shop:app'",
        ),
        (
            "shop:app",
            {},
            "'app' is named as an application, but serve= does not say where it is served. Expected: serve='127.0.0.1",
        ),
        ("shop", {"serve_options": {"ws": "none"}}, "serve_options= is given, but serve= is not."),
        ("shop:app", {"serve": "8000"}, "serve='8000' is not an address: did you mean ':8000'?"),
        ("shop:app", {"serve": ":1", "serve_options": "x"}, "serve_options='x' is not a dict, such as"),
        (
            "shop:app",
            {"serve": ":1", "serve_options": {"stream_grace": -1}},
            "serve_options: invalid stream_grace=-1. Expected: seconds, 0 or more, or None to end only event streams",
        ),
        (
            "shop:app",
            {"serve": ":1", "serve_options": {"stream_grace": True}},
            "serve_options: invalid stream_grace=True. Expected: seconds,",
        ),
        (
            "shop:app",
            {"serve": ":1", "serve_options": {"cancel_on_disconnect": 1}},
            "serve_options: invalid cancel_on_disconnect=1. Expected: True or False.",
        ),
        (
            "shop:app",
            {"serve": ":1", "serve_options": {"head_timeout": 0}},
            "serve_options: invalid head_timeout=0. Expected: seconds, more than 0, or None for no limit.",
        ),
        (
            "shop:app",
            {"serve": ":1", "serve_options": {"access_log": 1}},
            "serve_options: invalid access_log=1. Expected: True, 'json', or a format such as",
        ),
        (
            "shop:app",
            {"serve": ":1", "serve_options": {"access_log": "%(zz)s"}},
            "serve_options: invalid access_log='%(zz)s'. Expected: True, 'json', or a format such as '%(h)s",
        ),
        (
            "shop:app",
            {"serve": ":1", "serve_options": {"wsgi_queue": -1}},
            "serve_options: invalid wsgi_queue=-1. Expected: a whole number: the requests that may wait for a thread.",
        ),
        (
            "shop:app",
            {"serve": ":1", "serve_options": {"workers": 2}},
            "'workers' cannot be set: use workers=",
        ),
        (
            "shop:app",
            {"serve": ":1", "serve_options": {"port": 2}},
            "'port' cannot be set: the address is serve=.",
        ),
        (
            "shop:app",
            {"serve": ":1", "serve_options": {"ws": print}},
            "cannot be sent to another process. Expected: text",
        ),
        ("shop:app", {"serves": ":1"}, "unknown option 'serves'. Did you mean 'serve'?"),
        ("shop:app", {"application": "app"}, "unknown option 'application'."),
    ],
)
def test_what_does_not_fit(app: mob.App, module: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError) as caught:
        app.role("web", module, **options)
    assert str(caught.value).startswith("role 'web': ")
    assert said in str(caught.value)


def test_what_serves_must_be_installed(app: mob.App, monkeypatch: pytest.MonkeyPatch) -> None:
    find = mob.app.importlib.util.find_spec
    monkeypatch.setattr(
        mob.app.importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else find(name, *more)
    )
    with pytest.raises(PlanError) as caught:
        app.role("web", "shop:app", serve=":8000")
    assert str(caught.value) == "role 'web': serve=':8000' needs uvicorn. Try: pip install 'mobsters[web]'"


def test_own_options_are_told_from_those_for_uvicorn() -> None:
    own, others = serve_options.split({"head_timeout": 5, "root_path": "/shop"})
    assert own.head_timeout == 5
    assert others == {"root_path": "/shop"}


@pytest.mark.parametrize("address", [":8000", "unix:\0web"])
def test_what_is_no_path_is_not_below_the_base(address: str) -> None:
    assert below("/srv", address, {"workers": [1, "a"]})[0] == address
