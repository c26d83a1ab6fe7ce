"""`mob.on("error")`: what the code of a mobster raises reaches its hook, once, and the hook does no harm."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import mob
from tests.docs.blocks import block
from tests.patience import PATIENCE
from tests.running import Apps, RunningApp, apps_in, wait_until

HERE = "tests/real/test_error_hook.py::test_the_recipe_for_sentry"
BACK = """
    import asyncio
    import threading
    import mob

    seen = []
    held = threading.Event()
    held.set()

    @mob.on("error")
    def broken(error, context):
        raise RuntimeError("the hook itself is broken")

    @mob.on("error")
    def keep(error, context):
        held.wait()
        caller = context.caller
        seen.append([context.kind, context.name, type(error).__name__, str(error), caller and caller.role])

    @mob.on("error")
    async def count(error, context):
        await asyncio.sleep(0)
        seen.append("counted")

    async def told():
        return list(seen)

    async def forget():
        seen.clear()

    async def hold():
        held.clear()

    async def go_on():
        held.set()

    def plain(number: int):
        raise ValueError(f"plain {number}")

    async def later():
        await asyncio.sleep(0)
        raise KeyError("later")

    def rows():
        yield 1
        raise LookupError("no more rows")

    async def rows_later():
        yield 1
        raise LookupError("no more rows, later")

    async def unsendable():
        return threading.Lock()

    def leave():
        raise SystemExit(3)

    async def use(callback):
        return await callback(1)

    tasks = []

    async def forget_a_task():
        async def inner():
            raise OSError("in a task")
        asyncio.create_task(inner(), name="inner").add_done_callback(tasks.append)
        await asyncio.sleep(0.001)
        while not tasks:
            await asyncio.sleep(0.001)
        tasks.clear()

    @mob.on("message")
    def stumble(obj):
        raise ValueError(f"heard {obj}")
    """
QUIET = """
    import threading

    def plain(number: int):
        raise ValueError(f"plain {number}")

    async def threads():
        return [thread.name for thread in threading.enumerate()]
    """


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apps]:
    with apps_in(tmp_path_factory.mktemp("hook")) as apps:
        yield apps


@pytest.fixture(scope="module")
def app(apps: Apps) -> RunningApp:
    roles = ".role('back', './back.py', queue=10).role('threads', './back.py', threads=2).role('quiet', './quiet.py')"
    return apps.start(roles, back=BACK, quiet=QUIET)


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    return app.wait_ready()


def wait_told(role: Any, *errors: list[str]) -> None:
    """Wait until the hooks have seen exactly these errors, each of the two hooks once."""
    wanted = [entry for error in errors for entry in (error, "counted")]
    wait_until(lambda: len(role.told().result(PATIENCE)) >= len(wanted), f"{errors} are reported")
    assert role.told().result(PATIENCE) == wanted
    role.forget().result(PATIENCE)


@pytest.mark.parametrize("role", ["back", "threads"])
@pytest.mark.parametrize(
    ("export", "args", "error"),
    [
        ("plain", (7,), ["ValueError", "plain 7"]),
        ("later", (), ["KeyError", "'later'"]),
        ("unsendable", (), ["BadMessage", None]),
    ],
)
def test_an_exception_of_an_export_is_told_once(
    client: mob.Client, role: str, export: str, args: tuple[int, ...], error: list[str | None]
) -> None:
    proxy = client.require(role)
    assert getattr(proxy, export)(*args).exception(PATIENCE) is not None
    wait_until(lambda: len(proxy.told().result(PATIENCE)) == 2, "it is reported")
    told, counted = proxy.told().result(PATIENCE)
    proxy.forget().result(PATIENCE)
    assert (told[:3], told[4], counted) == (["export", f"{role}.{export}", error[0]], "", "counted")
    assert error[1] in (told[3], None)


@pytest.mark.parametrize("role", ["back", "threads"])
@pytest.mark.parametrize("export", ["rows", "rows_later"])
def test_so_is_that_of_a_generator(client: mob.Client, role: str, export: str) -> None:
    proxy = client.require(role)
    with pytest.raises(LookupError):
        list(getattr(proxy, export)())
    text = "no more rows" + (", later" if export == "rows_later" else "")
    wait_told(proxy, ["export", f"{role}.{export}", "LookupError", text, ""])


def test_so_is_that_of_each_item_of_a_map(client: mob.Client) -> None:
    back = client.require("back")
    assert len(list(back.plain.map([1, 2], return_exceptions=True))) == 2
    wait_told(back, *(["export", "back.plain", "ValueError", f"plain {number}", ""] for number in (1, 2)))


def test_handlers_and_tasks_are_told_of(client: mob.Client) -> None:
    back = client.require("back")
    client.all("back").send("this")
    wait_told(back, ["handler", "message", "ValueError", "heard this", ""])
    back.forget_a_task().result(PATIENCE)
    wait_until(lambda: back.told().result(PATIENCE), "the task is reported")
    told = back.told().result(PATIENCE)[0]
    assert told[:4] == ["task", "inner", "OSError", "in a task"]
    back.forget().result(PATIENCE)


def test_a_callback_is_told_of_where_it_was_raised(app: RunningApp, client: mob.Client) -> None:
    back = client.require("back")
    seen: list[tuple[str, str, str]] = []
    with mob.connect(app.name) as other:
        other.on("error", lambda error, context: seen.append((context.kind, context.name, str(error))))

        def fails(number: int) -> None:
            raise ValueError(f"no {number}")

        assert isinstance(other.require("back").use(fails).exception(PATIENCE), ValueError)
        wait_until(lambda: seen, "the client's hook runs")
    assert seen == [("callback", "client.callback", "no 1")]
    # The export lets it out: that is a second exception.
    wait_until(lambda: len(back.told().result(PATIENCE)) == 2, "the export is reported")
    assert back.told().result(PATIENCE)[0][:2] == ["export", "back.use"]
    back.forget().result(PATIENCE)


def test_what_mob_refuses_and_exits_are_not_told(client: mob.Client) -> None:
    back = client.require("back")
    for call in (back.plain("x"), back.plain(), back.leave(), back.options(timeout=0.0).plain(1)):
        assert call.exception(PATIENCE) is not None
    assert back.plain(0).exception(PATIENCE) is not None
    wait_told(back, ["export", "back.plain", "ValueError", "plain 0", ""])


def test_a_slow_hook_delays_no_call_and_loses_nothing_silently(app: RunningApp, client: mob.Client) -> None:
    back = client.require("back")
    back.hold().result(PATIENCE)
    try:
        for number in range(1200):
            assert isinstance(back.plain(number).exception(PATIENCE), ValueError)
        app.wait_for(
            "an error of back.plain was not passed to the handlers of 'error', because 1000 errors wait for them"
        )
    finally:
        back.go_on().result(PATIENCE)
    wait_until(lambda: len(back.told().result(PATIENCE)) >= 2000, "those that fit are reported")
    back.forget().result(PATIENCE)


def test_a_hook_that_raises_is_logged(app: RunningApp, client: mob.Client) -> None:
    back = client.require("back")
    back.plain(1).exception(PATIENCE)
    app.wait_for("a handler of 'error' raised RuntimeError: the hook itself is broken")
    wait_told(back, ["export", "back.plain", "ValueError", "plain 1", ""])


def test_without_a_hook_there_is_no_thread(client: mob.Client) -> None:
    quiet = client.require("quiet")
    assert isinstance(quiet.plain(1).exception(PATIENCE), ValueError)
    assert "mob-errors" not in quiet.threads().result(PATIENCE)


def test_the_recipe_for_sentry(apps: Apps) -> None:
    sentry = """
        import contextlib

        class Scope:
            def set_tag(self, name, value):
                self.tags = {**getattr(self, "tags", {}), name: value}
            def capture_exception(self, error):
                print("captured", repr(error), sorted(self.tags.items()), flush=True)

        def init(dsn):
            pass

        @contextlib.contextmanager
        def new_scope():
            yield Scope()
        """
    shop = "import reporting\n\ndef price():\n    raise ValueError('no price')\n"
    app = apps.start(
        ".role('shop', './shop.py')", name="", sentry_sdk=sentry, reporting=block("docs/recipes.md", HERE), shop=shop
    )
    with app.wait_ready() as client:
        assert isinstance(client.require("shop").price().exception(PATIENCE), ValueError)
        app.wait_for(
            r"captured ValueError\('no price'\) \[\('mob.caller', 'client'\), \('mob.kind', 'export'\), "
            r"\('mob.name', 'shop.price'\)\]"
        )


def test_a_stop_waits_for_what_was_raised(apps: Apps) -> None:
    slow = """
        import time
        import mob

        @mob.on("error")
        def tell(error, context):
            time.sleep(0.3)
            print("told of", error, flush=True)

        @mob.on("stop")
        def stop():
            raise ValueError("at the end")
        """
    app = apps.start(".role('slow', './slow.py')", slow=slow)
    app.wait_ready()
    app.stop()
    assert "told of at the end" in app.output


def test_what_is_raised_after_the_end_starts_no_thread(app: RunningApp) -> None:
    with mob.connect(app.name) as client:
        seen: list[str] = []
        client.on("error", lambda error, context: seen.append(str(error)))
        hooks = client._caller.hooks
        hooks.report(ValueError("before"), "task", "foo")
    assert seen == ["before"]

    def tellers() -> set[threading.Thread]:  # also those of other clients, and one of this client that is about to end
        return {thread for thread in threading.enumerate() if thread.name == "mob-errors"}

    before = tellers()
    hooks.report(ValueError("after"), "task", "foo")
    assert tellers() <= before
    assert seen == ["before"]
