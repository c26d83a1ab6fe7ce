"""Apps whose names look alike on NATS share nothing, whatever their names, roles and machines are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mob.cluster.names import NatsNames, token
from mob.plan import NAME
from tests.patience import patient
from tests.real.cluster.machines import Nats, nodes_in
from tests.running import wait_until

NAMES = st.from_regex(NAME, fullmatch=True).filter(str.isascii)
ALIKE = st.text("a_.-d*> /é\n", max_size=12) | NAMES | NAMES.map(lambda name: f"{name[:50]}-dead")
VALID = re.compile(r"[A-Za-z0-9_-]+")


def all_of(app: str, roles: tuple[str, ...]) -> set[str]:
    """Everything that an app has on NATS."""
    names = NatsNames(app)
    subjects = {names.all, names.stored, names.node(1), names.gateway(1)}
    subjects |= {of(role) for of in (names.durable, names.dead) for role in roles}
    return {*subjects, names.stream, names.dead_stream, names.bucket, f"KV_{names.bucket}"}


@given(ALIKE, ALIKE)
def test_two_apps_share_nothing(one: str, other: str) -> None:
    shared = all_of(one, ("back",)) & all_of(other, ("back",))
    assert bool(shared) is (one == other)


@given(ALIKE, ALIKE)
def test_two_roles_share_nothing(one: str, other: str) -> None:
    assert (token(one) == token(other)) is (one == other)
    names = NatsNames("app")
    assert (names.durable(one) == names.durable(other)) is (one == other)


@given(ALIKE.filter(lambda name: name != "*"))  # which stands for all roles
def test_they_are_what_nats_takes(app: str) -> None:
    names = NatsNames(app)
    for name in (names.stream, names.dead_stream, names.bucket, token(app)):
        assert VALID.fullmatch(name)
    for subject in (names.all, names.durable(app), names.dead(app)):
        assert all(map(VALID.fullmatch, subject.split(".")))
    assert len(names.durable(app).split(".")) == 4  # one part for the role, as the stream takes them


@given(NAMES.filter(lambda name: "." not in name and not name.endswith("-dead")))
def test_a_plain_name_stays_as_it_was(app: str) -> None:
    names = NatsNames(app)
    assert (names.prefix, names.stream, names.bucket) == (f"mob.{app}", f"mob-{app}", f"mob_{app}_leases")
    assert names.durable("back") == f"mob.{app}.durable.back"


BACK = """
import mob
@mob.on("message")
async def note(obj): print("noted", {app!r}, obj, flush=True)
def who(): return {app!r}
"""


@pytest.mark.parametrize(("one", "other"), [("shop.eu", "shop_eu"), ("shop", "shop-dead")])
def test_apps_with_names_that_look_alike_are_strangers(tmp_path: Path, nats: Nats, one: str, other: str) -> None:
    with nodes_in(tmp_path / "x") as first, nodes_in(tmp_path / "y") as second:
        for apps, ending in ((first, one), (second, other)):
            apps.directory.mkdir()
            apps.app = f"{first.app[:20]}-{ending}"
        started = [
            apps.start(nats, '.role("back.up", "./back.py")', ("m1", "m2"), back=BACK.format(app=apps.app))
            for apps in (first, second)
        ]
        for apps, nodes in zip((first, second), started, strict=True):
            for node in nodes:
                assert node.nodes == {"m1", "m2"}
                assert set(node.client.all("back.up").call.who().result(patient(30)).values()) == {apps.app}
            nodes[0].client.any("back.up").send("durable", durable=True).result(patient(30))
            told = f"noted {apps.app} durable"
            wait_until(lambda nodes=nodes, told=told: any(told in n.output for n in nodes), "it is handled")
        for nodes, own in zip(started, (first.app, second.app), strict=True):
            assert all(
                f"noted {app} " not in node.output for node in nodes for app in (first.app, second.app) if app != own
            )
