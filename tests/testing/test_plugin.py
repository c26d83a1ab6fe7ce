"""The plugin as its users have it: test files, run by a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mob import testing
from tests.patience import patient

pytest_plugins = ["pytester"]
Run = Callable[..., pytest.RunResult]

BACK = """
    import os
    import subprocess
    import mob

    kept = []

    def add(a: int, b: int) -> int:
        print(f"adds {a} and {b}")
        return a + b

    def keep(function):
        kept.append(function)

    def forget():
        kept.clear()

    def spawn():
        return subprocess.Popen(["sleep", "60"], start_new_session=True).pid

    def app():
        return mob.me().app

    async def sleep(seconds: float):
        import asyncio
        await asyncio.sleep(seconds)

    def count(to: int):
        yield from range(to)
"""
MAIN = """
    import mob
    mob.start("shop").base(__file__).role("back", "./back.py", workers=2).role("stats", "./back.py").run()
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs the text of a test in the directory of an app."""

    def run(test: str, *options: str, **files: str) -> pytest.RunResult:
        for name, text in {"back": BACK, "main": MAIN, "test_shop": test, **files}.items():
            (pytester.path / f"{name}.py").write_text(textwrap.dedent(text))
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=patient(60))

    return run


def text_of(result: pytest.RunResult) -> str:
    return "\n".join(result.outlines + result.errlines)


def test_an_app_is_started_in_all_the_ways_that_there_are(run: Run) -> None:
    result = run(
        """
        import mob, pytest

        @pytest.fixture(params=[False, True], ids=["processes", "one"])
        def one(request):
            return request.param

        def test_script(mob_app, one):
            app = mob_app("main.py", one_process=one)
            assert app.is_one_process is one
            assert app.places() == ["back.0", "back.1", "stats.0"]
            assert app.require("back").app().result(10) == app.app != "shop"

        def test_some_roles(mob_app, one):
            app = mob_app("main.py", roles="back=1", one_process=one)
            assert app.places() == ["back.0"]

        def test_roles_without_a_script(mob_app, one):
            app = mob_app(back="./back.py", stats="back", one_process=one)
            assert app.require("stats").add(1, 2).result(10) == 3

        def test_an_app(mob_app, one):
            app = mob_app(mob.start("mine").role("back", "./back.py", workers=3), one_process=one)
            assert len(app.pids("back")) == 3

        def test_two_at_a_time(mob_app, one):
            first, second = (mob_app(back="./back.py", one_process=one) for _ in range(2))
            assert first.require("back").app().result(10) != second.require("back").app().result(10)
            first.stop()
            assert second.require("back").add(1, 2).result(10) == 3

        def test_prints(mob_app, one):
            app = mob_app(back="./back.py", one_process=one)
            app.require("back").add(3, 4).result(10)
            (found,) = app.wait_for(r"adds (\\d+)")
            assert found[1] == "3" and "back.0" in app.output
        """,
    )
    result.assert_outcomes(passed=12)


LEAKS = """
    import socket
    import pytest

    kept = []

    def listen(value): ...

    def test_callbacks(mob_app):
        mob_app(back="./back.py").require("back").keep(listen).result(10)

    def test_calls(mob_app):
        app = mob_app(back="./back.py")
        kept.append(app.require("back").sleep(30))
        app.require("back").add(1, 1).result(10)

    def test_streams(mob_app):
        app = mob_app(back="./back.py")
        kept.append(iter(app.require("back").count(1000000)))
        assert next(kept[-1]) == 0

    def test_processes(mob_app):
        mob_app(back="./back.py", one_process=False).require("back").spawn().result(10)

    def test_descriptors(mob_app):
        mob_app(back="./back.py")
        kept.append(socket.create_server(("127.0.0.1", 0)))

    @pytest.mark.mob_leaks("callbacks")
    def test_allowed(mob_app):
        mob_app(back="./back.py").require("back").keep(listen).result(10)

    @pytest.mark.mob_leaks("callback")
    def test_no_kind(mob_app): ...
"""
TOLD = [
    "*callbacks: listen (test_shop.py:7) of this test is held by back.0 (pid *)",
    'To allow it, use @pytest.mark.mob_leaks("callbacks").',
    "*calls: back.sleep of this test, not answered by back.0 (pid *)",
    "*streams: back.count of this test, not read to its end by back.0 (pid *)",
    "*descriptors: *, a socket AF_INET at ('127.0.0.1', *)",
    "*mob_leaks: there is no kind 'callback' of leaks. Did you mean 'callbacks'?",
]


@pytest.mark.parametrize("mode", [(), ("--mob-one-process",)], ids=["processes", "one process"])
def test_a_leak_of_each_kind_fails_its_test_and_is_told(run: Run, mode: tuple[str, ...]) -> None:
    before = {process.pid for process in psutil.process_iter()}
    result = run(LEAKS, *mode)
    result.assert_outcomes(passed=6, errors=5)  # what a worker has started in a session of its own ends with it
    result.stdout.fnmatch_lines(TOLD)
    new = [each for each in psutil.process_iter(["cmdline"]) if each.pid not in before]
    assert not [p for p in new if p.info["cmdline"] == ["sleep", "60"] and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("mode", [(), ("--mob-one-process",)], ids=["processes", "one process"])
def test_an_app_that_does_not_come_up_is_told_at_once(run: Run, mode: tuple[str, ...]) -> None:
    result = run(
        """
        def test_broken(mob_app):
            mob_app(back="./back.py", broken="./broken.py")
        """,
        *mode,
        broken="import no_such_thing",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*NotReady: the app 'test-*' did not come up: broken.0: ModuleNotFoundError: No module named *",
            "*broken.py*, line 1, in <module>",
        ]
    )


def test_one_worker_of_several_that_cannot_boot_is_told_at_once(run: Run) -> None:
    result = run(
        """
        import mob

        def test_broken(mob_app):
            mob_app(mob.start("mine").role("picky", "./picky.py", workers=3))
        """,
        "--mob-one-process",
        picky="import mob\nassert mob.me().index != 1, 'not this one'",
    )
    result.assert_outcomes(failed=1)
    assert "did not come up: picky.1: AssertionError: not this one" in text_of(result)


def test_an_app_ends_with_the_process_that_tests_it(tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text("")
    test = """if True:
        from mob import testing
        with testing.start(back="./back.py") as app:
            print(app.kingpin_pid, flush=True)
            input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", test], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as tester:
        assert tester.stdout is not None
        kingpin = psutil.Process(int(tester.stdout.readline()))
        tester.kill()
    kingpin.wait(patient(30))


def test_a_module_that_blocks_is_not_for_one_process(run: Run) -> None:
    result = run(
        """
        from mob.testing import one_process

        def test_blocks(mob_app):
            one_process.BLOCKED = 1.0
            mob_app(server="./server.py")
        """,
        "--mob-one-process",
        server="import threading\nthreading.Event().wait(8)",
    )
    result.assert_outcomes(failed=1)
    assert "server.0 is still being imported after 1 s, at" in text_of(result)
    assert "server.py:2. A module that blocks during its import (a server's serve_forever) needs a process" in text_of(
        result
    )


def test_a_failed_test_shows_what_the_app_has_printed(run: Run) -> None:
    result = run(
        """
        def test_wrong(mob_app):
            assert mob_app(back="./back.py").require("back").add(40, 2).result(10) == 43
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- Output of the app test-* -*", "back.0 * | adds 40 and 2"])


def test_a_mistake_in_the_description_is_told(run: Run) -> None:
    result = run(
        """
        import mob, pytest

        def test_nothing(mob_app):
            with pytest.raises(mob.PlanError, match="nothing to start. Expected: a main script, an app, or roles"):
                mob_app()

        def test_no_file(mob_app):
            with pytest.raises(mob.PlanError, match="there is no file 'mian.py' in .*Did you mean 'main.py'"):
                mob_app("mian.py")

        def test_no_run(mob_app):
            with pytest.raises(mob.PlanError, match="ended without starting an app. Does it lack .run"):
                mob_app("back.py", one_process=True)

        def test_both(mob_app):
            with pytest.raises(mob.PlanError, match="roles .back. cannot be combined with a main script or an app"):
                mob_app("main.py", back="./back.py")
        """
    )
    result.assert_outcomes(passed=4)


def test_tests_run_beside_one_another(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_app(mob_app, number):
            assert mob_app("main.py", roles="back=1").require("back").add(number, 1).result(10) == number + 1
        """,
        "-n",
        "2",
        "--mob-one-process",
    )
    result.assert_outcomes(passed=4)


def test_the_setting_of_a_whole_suite(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmob_one_process = true\n")
    result = run(
        """
        def test_mode(mob_app):
            assert mob_app(back="./back.py").is_one_process
            assert not mob_app(back="./back.py", one_process=False).is_one_process
        """
    )
    result.assert_outcomes(passed=1)


def test_who_tests_no_app_pays_nothing(run: Run) -> None:
    result = run(
        """
        import sys

        def test_loaded():
            loaded = {name for name in sys.modules if name.startswith("mob.")}
            assert loaded == {"mob.errors", "mob.imports", "mob.testing", "mob.testing.plugin"}
            assert "uvloop" not in sys.modules
        """
    )
    result.assert_outcomes(passed=1)


def test_this_process_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text("import helper\ndef add(a): return helper.add(a)")
    (tmp_path / "helper.py").write_text("def add(a): return a")
    path, out, environ, modules = sys.path[:], sys.stdout, dict(os.environ), set(sys.modules)
    with testing.start(back="./back.py", directory=tmp_path, one_process=True) as app:
        assert app.require("back").add(1).result(patient(10)) == 1
    assert (sys.path, sys.stdout, dict(os.environ)) == (path, out, environ)
    assert not {"back", "helper"} & (set(sys.modules) - modules)
