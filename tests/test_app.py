"""The description of an app: what it collects, the text of each refusal; and the public names of mob."""

from __future__ import annotations

import ast
import atexit
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import mob
from mob import app as builder, errors
from mob.app import App
from mob.errors import MobError, NotInMobster, PlanError
from mob.kingpin import early
from mob.mobster import api
from mob.plan import Plan, RolePlan
from mob.rim import cores, places
from mob.templates import filled


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """Return an app whose base holds back.py, front.py and a package; it does not complain at the end of the tests."""
    for name in ("back", "front"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "shop" / "orders").mkdir(parents=True)
    app = mob.start("myapp").base(tmp_path)
    yield app
    atexit.unregister(app._complain_unless_run)


def refusal(app: App, *args: object, **options: object) -> str:
    """Return why a role is refused; the plan stays as it was."""
    before = app.plan
    with pytest.raises(PlanError) as caught:
        app.role(*args, **options)  # type: ignore[arg-type]
    assert app.plan == before
    return str(caught.value)


# --- what it collects -------------------------------------------------------------------------------------------------


def test_the_lines_of_an_app_become_its_plan(app: App, tmp_path: Path) -> None:
    described = app.role("back", "./back.py", workers=4, threads=2, concurrency=5, queue=6).role("front", "shop.orders")
    assert described is app
    assert app.plan == Plan(
        "myapp",
        str(tmp_path),
        (RolePlan("back", str(tmp_path / "back.py"), 4, 2, 5, 6), RolePlan("front", "shop.orders")),
    )
    assert repr(app) == "<App 'myapp': back x 4, front x 1>"


def test_limits_are_said_at_the_start() -> None:
    app = mob.start("myapp", grace=5, frame_limit=4096)
    assert (app.plan.grace, app.plan.frame_limit) == (5, 4096)
    assert repr(app) == "<App 'myapp': no roles yet>"


def test_sizes_and_numbers_of_workers_may_be_text(app: App) -> None:
    (role,) = app.role("back", "back", workers="cores", max_workers="cores*2", shared_memory="1M").plan.roles
    assert (role.workers, role.max_workers, role.shared_memory) == (cores.usable(), cores.usable() * 2, 2**20)
    described = mob.start("myapp", frame_limit="1M", backlog="1k").logs(max_bytes="64k").plan
    assert (described.frame_limit, described.backlog, described.logs.max_bytes) == (2**20, 1024, 2**16)


def test_text_that_is_no_number_is_named(app: App) -> None:
    assert refusal(app, "back", "back", max_memory="much").startswith("role 'back': max_memory='much' is not a size.")
    with pytest.raises(PlanError, match=r"^backlog='much' is not a size\. Expected: "):
        mob.start("myapp", backlog="much")
    with pytest.raises(PlanError, match=r"^logs: max_bytes='much' is not a size\. Expected: "):
        app.logs(max_bytes="much")


def test_a_token_is_no_template(app: App) -> None:
    (role,) = app.dashboard(token="{index}-secret").plan.roles
    assert filled(role.env, {})["MOB_DASHBOARD_TOKEN"] == "{index}-secret"


def test_gpus_are_shared_out_where_the_app_is_started(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    app.role("back", "back", gpus=1, workers=2)
    assert app.plan.roles[0].devices == ()
    assert app.hand_over().roles[0].devices == ("4", "7")
    app.role("front", "front", gpus=1)
    with pytest.raises(PlanError, match=r"role 'front': workers=1 and gpus=1 need 1 GPU, and there are 0 for it"):
        app.up()


@pytest.mark.parametrize("module", ["back.py", "./back.py", "shop/../back.py", Path("back.py"), "absolute"])
def test_a_file_is_looked_up_from_the_base(app: App, tmp_path: Path, module: str | Path) -> None:
    wanted = str(tmp_path / "back.py")
    (role,) = app.role("back", wanted if module == "absolute" else module).plan.roles
    assert role.module == wanted


@pytest.mark.parametrize("module", ["back", "shop", "shop.orders", "json", "json.decoder", "mob.plan"])
def test_an_import_string_is_kept(app: App, module: str) -> None:
    (role,) = app.role("back", module).plan.roles
    assert role.module == module


def test_looking_for_a_module_imports_nothing(app: App) -> None:
    sys.modules.pop("this", None)
    app.role("back", "this")
    assert "this" not in sys.modules


def test_the_base_is_a_directory_or_that_of_a_file(app: App, tmp_path: Path) -> None:
    assert app.base(tmp_path / "back.py").plan.base == str(tmp_path)
    assert app.base(tmp_path / "shop").plan.base == str(tmp_path / "shop")
    assert mob.start("myapp").plan.base == os.getcwd()


# --- what it refuses --------------------------------------------------------------------------------------------------


def test_a_name_that_cannot_name_an_app() -> None:
    with pytest.raises(PlanError, match=r"^'my app' cannot name an app\. Expected: "):
        mob.start("my app")


def test_a_base_that_is_not_there(app: App, tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        app.base(tmp_path / "nowhere")
    place = tmp_path / "nowhere"
    assert str(caught.value) == f"base({str(place)!r}): no such file or directory: {place}."


@pytest.mark.parametrize(
    ("option", "help"),
    [
        ("worker", "Did you mean 'workers'?"),
        ("max_workerz", "Did you mean 'max_workers'?"),
    ],
)
def test_an_option_that_is_like_one_that_exists(app: App, option: str, help: str) -> None:
    assert refusal(app, "back", "back.py", **{option: 1}) == f"role 'back': unknown option {option!r}. {help}"


def test_an_option_that_is_like_no_other_is_told_all_there_are(app: App) -> None:
    text = refusal(app, "back", "back.py", zzz=1)
    assert text.startswith("role 'back': unknown option 'zzz'. There are: 'boot_timeout', 'boot_tries', ")
    assert "'workers'" in text
    assert "'name'" not in text


@pytest.mark.parametrize("module", [None, 7, b"back.py", os, print])
def test_a_module_that_is_none(app: App, module: object) -> None:
    assert refusal(app, "back", module) == (
        f"role 'back': {module!r} is not a module. Expected: a file ending in .py, as in "
        f'.role("back", "./background_worker.py"), or an import string such as "pkg.module".'
    )


@pytest.mark.parametrize(
    ("module", "help"),
    [
        ("./bakc.py", "Did you mean 'back.py'?"),
        ("./back", "Did you mean 'back.py'?"),
        ("zzz.py", "There are: 'back.py', 'front.py'."),
        ("shop/zzz.py", "There are none."),
        ("nowhere/back.py", "There are none."),
        ("./shop", "There are: 'back.py', 'front.py'."),
    ],
)
def test_a_file_that_is_not_there(app: App, tmp_path: Path, module: str, help: str) -> None:
    assert refusal(app, "back", module) == (
        f"role 'back': there is no file {tmp_path / module}. {help} "
        f"Role files are looked up from the base; .base(__file__) makes it the main script's directory."
    )


@pytest.mark.parametrize("module", ["", "back worker", "shop.", ".orders", "shop..orders", "shop-orders", "back:1"])
def test_what_is_neither_a_file_nor_an_import_string(app: App, module: str) -> None:
    assert refusal(app, "back", module) == (
        f"role 'back': {module!r} is neither a file (it would end in .py) nor an import string "
        f"(names separated by dots)."
    )


@pytest.mark.parametrize(("module", "top"), [("bakc", "bakc"), ("nowhere.orders", "nowhere")])
def test_a_module_that_cannot_be_found(app: App, tmp_path: Path, module: str, top: str) -> None:
    assert refusal(app, "back", module) == (
        f"role 'back': there is no module {top!r} to import {module!r} from, neither in {tmp_path} "
        f"nor among the installed packages. Is it a file? Then write './{module.replace('.', '/')}.py'."
    )


def test_what_the_plan_refuses_is_refused_where_it_is_said(app: App, tmp_path: Path) -> None:
    app.role("back", "back.py")
    assert refusal(app, "back", "front.py") == (
        f"the role 'back' is declared twice: first with {str(tmp_path / 'back.py')!r}, then with 'front.py'. "
        "Give each role its own name; for more processes of one role use workers=."
    )
    assert refusal(app, "front", "front.py", workers=0) == (
        "role 'front': workers=0 is not a whole number of at least 1."
    )
    assert refusal(app, "mob", "front.py") == (
        "'mob' cannot name a role: mob uses that name itself. Choose another one."
    )
    assert refusal(app, "a b", "front.py").startswith("'a b' cannot name a role. Expected: ")


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace the Kingpin: return what it was given, and the status with which it exits."""
    ran = SimpleNamespace(plans=[], status=0)

    def run(plan: Plan, on_listening: Callable[[str], None] | None = None) -> int:
        ran.plans.append(plan)
        return ran.status

    monkeypatch.setattr(early, "run", run)
    return ran


def test_running_hands_the_plan_to_the_kingpin(app: App, ran: SimpleNamespace) -> None:
    app.role("back", "back.py").run()
    assert ran.plans == [app.plan]


def test_a_stop_by_force_ends_the_process_with_its_status(app: App, ran: SimpleNamespace) -> None:
    ran.status = 1
    with pytest.raises(SystemExit) as caught:
        app.role("back", "back.py").run()
    assert caught.value.code == 1


def test_there_must_be_something_to_run(app: App, ran: SimpleNamespace) -> None:
    with pytest.raises(PlanError, match=r"^the app 'myapp' has no role, so there is nothing to run\. Add one: "):
        app.run()
    assert ran.plans == []


def test_limits_are_checked_before_anything_runs(ran: SimpleNamespace) -> None:
    app = mob.start("myapp", grace=-1).role("back", "json")
    with pytest.raises(PlanError, match=r"^grace=-1 is not a number of seconds\.$"):
        app.run()
    atexit.unregister(app._complain_unless_run)
    assert ran.plans == []


def test_no_app_is_started_in_a_mobster(app: App, ran: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_peer", object())
    with pytest.raises(NotInMobster) as caught:
        app.role("back", "back.py").run()
    assert str(caught.value) == "run() was called in a mobster (a worker). An app is started once, by its main script."
    assert ran.plans == []


def test_an_app_that_is_never_run_is_told_of_at_the_end(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    app._complain_unless_run()
    assert capsys.readouterr().err == ""  # nothing was described either
    app.role("back", "back.py")
    app._complain_unless_run()
    assert capsys.readouterr().err == (
        "mob: the app 'myapp' was described but never run. Did you forget .run() at the end?\n"
    )


def test_there_is_no_complaint_after_a_run_or_an_error(
    app: App, ran: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app.role("back", "back.py")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "last_value", ValueError(), raising=False)  # as the interpreter does before it ends
        app._complain_unless_run()
    app.run()
    app._complain_unless_run()
    assert capsys.readouterr().err == ""


# --- the public names -------------------------------------------------------------------------------------------------

INIT = ast.parse(Path(mob.__file__).read_text("utf-8"))


def homes_for_types() -> list[tuple[str, str]]:
    """Return (name, module) as the block for type checkers has them."""
    block = next(node for node in INIT.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    assert all(alias.asname == alias.name for node in imports for alias in node.names)  # "as": exported on purpose
    return [(alias.name, str(node.module)) for node in imports for alias in node.names]


@pytest.mark.parametrize("name", mob.__all__)
def test_a_public_name_can_be_loaded(name: str) -> None:
    home = importlib.import_module(mob._HOME_OF[name])
    assert getattr(mob, name) is getattr(home, name)


def test_each_public_name_is_listed_once_and_for_all_the_same() -> None:
    listed = [name for names in mob._HOMES.values() for name in names.split()]
    assert sorted(listed) == sorted(set(listed)) == mob.__all__
    for_types = homes_for_types()
    assert len(for_types) == len(set(for_types))
    assert dict(for_types) == mob._HOME_OF
    assert set(mob.__all__) < set(dir(mob))


def test_all_errors_are_public() -> None:
    kinds = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, MobError)}
    assert kinds <= set(mob.__all__)


def test_a_name_that_does_not_exist_is_told_with_the_nearest() -> None:
    with pytest.raises(AttributeError) as caught:
        mob.requier  # noqa: B018  the access itself is tested
    assert str(caught.value) == "module 'mob' has no 'requier'. Did you mean 'require'?"


def test_loading_mob_loads_neither_side() -> None:
    code = "import sys, mob; print(sorted(name for name in sys.modules if name.startswith('mob.')))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert ast.literal_eval(shown) == ["mob.errors", "mob.imports"]


def test_the_builder_is_what_start_makes() -> None:
    assert builder.start is mob.start
    assert isinstance(mob.start("myapp"), mob.App)


def test_an_app_with_jobs_left_has_their_keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(App, "_complain_unless_run", lambda _: None)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    app = mob.start("jobbing").role("back", "json")
    app._find_queue()
    assert [role.name for role in app.plan.roles] == ["back"]
    path = tmp_path / "mob" / "queues" / "jobbing.db"
    path.parent.mkdir(parents=True)
    path.touch()
    app._find_queue()
    assert [role.name for role in app.plan.roles] == ["queue", "back"]
    assert app.plan.roles[0].env["MOB_QUEUE_PATH"] == str(path)
    other = mob.start("jobbing").role("back", "json").queue(tmp_path / "other{index}.db")
    assert [role.env.get("MOB_QUEUE_PATH") for role in other.plan.roles] == [str(tmp_path / "other{{index}}.db"), None]
    with pytest.raises(PlanError, match=r"queue\(\) was called twice: an app has one queue\."):
        other.queue(keep=60)
    app.place(back=0)
    assert [role.workers for role in app.plan.roles] == [1, 0]
    with pytest.raises(PlanError, match="has no role, so there is nothing to run"):
        mob.start("jobbing").queue(tmp_path / "jobs.db").hand_over()
    with pytest.raises(PlanError, match="this app has its own role with that name"):
        mob.start("jobbing").role("queue", "json").queue(tmp_path / "jobs.db")
    with pytest.raises(PlanError, match="Expected: the file in which jobs are kept"):
        mob.start("jobbing").queue(tmp_path)


def test_an_app_whose_cluster_has_jobs_is_ready_to_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(App, "_complain_unless_run", lambda _: None)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    app = mob.start("jobbing").role("back", "json").cluster("nats://127.0.0.1:4222", node="a")
    app._find_queue()
    assert "queue" not in [role.name for role in app.plan.roles]
    mark = places.queue_mark(app.plan.address, make=True)
    assert mark.exists()
    app._find_queue()
    assert app.plan.roles[0].name == "queue"
    app.hand_over()


def test_a_file_of_jobs_is_refused_in_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(App, "_complain_unless_run", lambda _: None)
    first = mob.start("jobbing").role("back", "json").queue(tmp_path / "jobs.db").cluster("nats://127.0.0.1", node="a")
    last = mob.start("jobbing").role("back", "json").cluster("nats://127.0.0.1", node="a").queue(tmp_path / "jobs.db")
    for app in (first, last):
        with pytest.raises(PlanError, match=r"in a cluster durable jobs are kept in JetStream, .* Leave out path= or"):
            app.hand_over()
    mob.start("jobbing").role("back", "json").queue(keep=60).cluster("nats://127.0.0.1", node="a").hand_over()
