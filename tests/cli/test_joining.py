"""`mob run --join --roles --node`, MOB_CLUSTER and MOB_ROLES, and [cluster] and [place] in a file."""

from __future__ import annotations

import atexit
import inspect
from pathlib import Path
from typing import Any

import click
import pytest

from mob import app as apps
from mob.app import App
from mob.cli import config, joining
from mob.errors import PlanError
from mob.kingpin import early
from mob.plan import GATEWAY, Cluster, Plan


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that the Kingpin received; nothing runs."""
    plans: list[Plan] = []

    def keep(plan: Plan, before: object = None) -> int:
        plans.append(plan)
        return 0

    monkeypatch.setattr(early, "run", keep)
    monkeypatch.setattr(apps, "before_run", [])
    for name in (apps.CLUSTER, apps.ROLES, apps.NODE):
        monkeypatch.delenv(name, raising=False)
    return plans


@pytest.fixture
def app(tmp_path: Path) -> App:
    for name in ("back", "front"):
        (tmp_path / f"{name}.py").write_text("")
    return App("myapp").base(tmp_path).role("back", "./back.py", workers=3).role("front", "./front.py")


def prepare(*args: str) -> tuple[str, ...]:
    options, rest = joining.taken(args)
    joining.prepare(**options)
    return rest


def workers(plan: Plan) -> dict[str, int]:
    return {role.name: role.workers for role in plan.roles if role.name != GATEWAY}


def test_an_app_that_knows_of_no_cluster_joins_one(app: App, ran: list[Plan]) -> None:
    assert prepare("--join", "nats://a", "--join=nats://b", "--node", "n1", "rest") == ("rest",)
    app.run()
    cluster = ran[0].cluster
    assert cluster is not None
    assert (cluster.servers, cluster.node, ran[0].address) == (("nats://a", "nats://b"), "n1", "myapp@n1")
    assert ran[0].roles[0].name == GATEWAY


def test_what_the_options_do_not_say_is_as_the_app_says_it(app: App, ran: list[Plan]) -> None:
    app.cluster("nats://a", node="n1", user="me", password="secret", gateways=2)
    prepare("--join", "nats://b")
    app.run()
    cluster = ran[0].cluster
    assert cluster is not None
    assert (cluster.servers, cluster.node, cluster.user, cluster.password) == (("nats://b",), "n1", "me", "secret")
    assert [role.workers for role in ran[0].roles if role.name == GATEWAY] == [2]


def test_another_name_alone(app: App, ran: list[Plan]) -> None:
    app.cluster("nats://a", node="n1")
    prepare("--node", "n2")
    app.run()
    assert ran[0].cluster is not None
    assert (ran[0].cluster.servers, ran[0].cluster.node) == (("nats://a",), "n2")


def test_a_name_without_a_cluster(app: App, ran: list[Plan]) -> None:
    prepare("--node", "n2")
    with pytest.raises(click.UsageError, match=r"myapp is not part of a cluster\. Name its server with --join URL"):
        app.run()


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("back=8,front=2", {"back": 8, "front": 2}),
        ("back=8", {"back": 8, "front": 0}),
        ("back", {"back": 3, "front": 0}),
        (" back=1 , front", {"back": 1, "front": 1}),
    ],
)
def test_which_roles_run_here(app: App, ran: list[Plan], text: str, there: dict[str, int]) -> None:
    prepare("--roles", text)
    app.run()
    assert workers(ran[0]) == there


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bakc=8", "roles: there is no role 'bakc'. Did you mean 'back'?"),
        ("bakc", "roles: there is no role 'bakc'. Did you mean 'back'?"),
        ("back=many", "roles: 'back=many' gives no number of workers. Expected: back=8,front=2."),
        ("back=-1", "roles: 'back=-1' gives no number of workers. Expected: back=8,front=2."),
        (",", "roles: ',' names no role. Expected: back=8,front=2."),
    ],
)
def test_roles_that_make_no_sense(app: App, ran: list[Plan], text: str, told: str) -> None:
    prepare(f"--roles={text}")
    with pytest.raises(PlanError) as caught:
        app.run()
    assert str(caught.value) == told


def test_the_environment_says_it_and_the_line_overrides_it(
    app: App, ran: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(apps.CLUSTER, "nats://a,nats://b")
    monkeypatch.setenv(apps.ROLES, "back=5")
    prepare("--join", "nats://c")
    app.run()
    assert ran[0].cluster is not None
    assert ran[0].cluster.servers == ("nats://c",)
    assert workers(ran[0]) == {"back": 5, "front": 0}


def test_an_option_without_its_value() -> None:
    with pytest.raises(click.UsageError, match="--join requires a value"):
        joining.taken(("--join",))


def described(directory: Path, text: str) -> Plan:
    (directory / "back.py").write_text("")
    (directory / "mob.toml").write_text(text)
    app = config.described(directory / "mob.toml")
    atexit.unregister(app._complain_unless_run)
    return app.plan


def test_a_file_says_it(tmp_path: Path, ran: list[Plan]) -> None:
    (tmp_path / "ca.pem").write_text("")
    plan = described(
        tmp_path,
        """
        name = "myapp"
        [roles.back]
        module = "./back.py"
        [cluster]
        servers = ["nats://a:4222"]
        node = "n1"
        ca = "ca.pem"
        gateways = 2
        [place]
        back = 8
        """,
    )
    assert plan.cluster is not None
    assert (plan.cluster.servers, plan.cluster.node, plan.cluster.gateways) == (("nats://a:4222",), "n1", 2)
    assert plan.cluster.ca == str(tmp_path / "ca.pem")
    assert workers(plan) == {"back": 8}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("[cluster]\nservers = ['nats://a']\nnoed = 'x'", "unknown option 'noed' in [cluster]. Did you mean 'node'?"),
        ("[cluster]\nservers = 'nats://a'", 'cluster.servers = "nats://a": expected array'),
        ("[cluster]\nnode = 'a'", "cluster(): no server was given"),
        ("[place]\nbakc = 1", "roles: there is no role 'bakc'. Did you mean 'back'?"),
    ],
)
def test_a_file_that_says_it_wrongly(tmp_path: Path, ran: list[Plan], more: str, told: str) -> None:
    with pytest.raises(PlanError) as caught:
        described(tmp_path, f"name = 'myapp'\n[roles.back]\nmodule = './back.py'\n{more}\n")
    assert told in str(caught.value)


def test_every_option_of_a_cluster_can_be_said(app: App) -> None:
    """`App.cluster` accepts all fields of `plan.Cluster`: a file and `--join` rely on that."""
    known: Any = inspect.signature(app.cluster).parameters
    assert {field for field in Cluster.__struct_fields__ if field not in known} == {"is_named"}
