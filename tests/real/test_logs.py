"""Logs: JSON, files, what `logging` records, followers, and what is dropped when there is too much."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, freeze, mob_command, wait_until

TALKS = """
    import logging, mob

    log = logging.getLogger("shop")

    @mob.on("message")
    def say(text):
        print(text)

    def complain(text):
        log.warning(text, extra={"order": 4711})

    def fail():
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("failed")
    """


def objects_of(app: RunningApp) -> list[dict[str, Any]]:
    return [json.loads(line) for line in app.lines]


def logs(app: RunningApp, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `mob logs` to its end."""
    return mob_command(app.directory, "logs", "-a", app.name, *arguments)


def follow(apps: Apps, app: RunningApp, *arguments: str, terminal: bool = False) -> RunningApp:
    """Start `mob logs -f`."""
    command = [sys.executable, "-m", "mob", "logs", "-a", app.name, "-f", *arguments]
    return apps.run(app.name, command, terminal=terminal)


# ------------------------------------------------------------------------------------------------------- as JSON


def test_every_line_is_an_object(apps: Apps) -> None:
    app = apps.start(
        '.logs(format="json").role("back", "./back.py")',
        back="""
            import sys

            print("plain", flush=True)
            print('{"event": "paid", "role": "customer"}', flush=True)
            print("to stderr", file=sys.stderr)
            sys.stdout.write("no end")
        """,
    )
    client = app.wait_ready(1)
    (member,) = app.ready(client)
    assert app.stop() == 0
    who = {"role": "back", "index": 0, "pid": member.pid}
    found = objects_of(app)
    times = [each.pop("time") for each in found]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", each) for each in times)
    assert {**who, "stream": "stdout", "message": "plain"} in found
    assert {**who, "stream": "stdout", "event": "paid", "role": "customer"} in found
    assert {**who, "stream": "stderr", "message": "to stderr"} in found
    assert {**who, "stream": "stdout", "message": "no end"} in found
    kingpin = {"role": "kingpin", "index": 0, "pid": app.process.pid, "stream": "stderr"}
    assert {**kingpin, "message": "stopping."} in found


def test_records_of_logging_are_objects_with_the_id_of_the_call(apps: Apps) -> None:
    app = apps.start('.logs(format="json").role("back", "./back.py")', back=TALKS)
    back = app.wait_ready(1).require("back")
    back.complain("too late").result(patient(10))
    back.fail().result(patient(10))
    app.wait_for("ZeroDivisionError")
    first, second = (each for each in objects_of(app) if "logger" in each)
    assert (first["level"], first["logger"], first["message"]) == ("WARNING", "shop", "too late")
    assert (first["app"], first["role"], first["index"], first["order"]) == (app.name, "back", 0, 4711)
    assert re.fullmatch(r"\d+-\d+", first["call"])
    assert second["exc_info"].startswith("Traceback")
    assert second["call"] != first["call"]
    assert second["call"].split("-")[0] == first["call"].split("-")[0]


def test_any_format_may_name_the_call(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./back.py", threads=2)',
        back="""
            import asyncio, logging

            logging.basicConfig(format="%(app)s %(role)s.%(index)s %(process)d=%(pid)d [%(call)s] %(message)s")
            logging.warning("outside")

            async def waits():
                await asyncio.create_task(later())

            async def later():
                logging.warning("waits")

            def threads():
                logging.warning("threads")
        """,
    )
    client = app.wait_ready(1)
    for export in ("waits", "threads"):
        getattr(client.require("back"), export)().result(patient(10))
        (inside,) = app.wait_for(rf"\| (\S+) back\.0 (\d+)=(\d+) \[(\d+-\d+)\] {export}$")
        assert inside[1] == app.name
        assert inside[2] == inside[3] == str(app.ready(client)[0].pid)
    (outside,) = app.wait_for(r"\| (\S+) back\.0 (\d+)=(\d+) \[\] outside$")
    assert outside[1] == app.name


# -------------------------------------------------------------------------------------------------------- to a file


def file_lines(path: Path) -> list[str]:
    """Return the lines of the file and of the rotated ones, oldest first."""
    names = sorted(path.parent.glob(f"{path.name}*"), key=lambda each: int(each.suffix[1:] or 0), reverse=True)
    return [line for each in names for line in each.read_text().splitlines(keepends=True)]


def test_lines_go_to_files_that_are_put_aside(apps: Apps) -> None:
    (apps.directory / "log").mkdir()
    app = apps.start(
        '.logs(file="log/out", max_bytes=20_000, keep=50).role("back", "./back.py", workers=2)',
        back="for n in range(2000): print(n, 'x' * (n % 50))",
    )
    app.wait_ready(2)
    assert app.stop() == 0
    assert app.output == ""
    path = apps.directory / "log" / "out"
    written = file_lines(path)
    sizes = [each.stat().st_size for each in path.parent.iterdir()]
    assert len(sizes) > 5
    assert max(sizes) <= 20_000
    found: dict[str, list[str]] = {}
    for line in written:
        match = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?:(back\.\d) \d+|mob) \| (.*)\n", line)
        assert match, line
        found.setdefault(match[1] or "mob", []).append(match[2])
    wanted = [f"{n} {'x' * (n % 50)}" for n in range(2000)]
    assert found == {"back.0": wanted, "back.1": wanted, "mob": ["stopping."]}


def test_on_a_terminal_the_kingpins_words_are_seen_as_well(apps: Apps) -> None:
    app = apps.start('.logs(file="out").role("back", "./back.py")', back="print('hello')", terminal=True)
    app.wait_ready(1)
    app.type("\x03")
    assert app.wait() == 0
    assert [line.rpartition(" | ")[2] for line in app.lines] == ["stopping."]
    assert re.sub(r"(?m)^\S+Z ", "", (apps.directory / "out").read_text()).splitlines()[1:] == ["mob | stopping."]


def test_a_file_that_cannot_be_is_told_at_the_start(apps: Apps) -> None:
    app = apps.start('.logs(file="no/such/place").role("back", "./back.py")', back="print('hello')")
    assert app.wait() == 1
    assert app.lines[-1].startswith("mob.errors.PlanError: logs: the file ")
    assert "/no/such/place cannot be written: No such file or directory. Choose a path in an " in app.lines[-1]


def test_a_full_disk_is_told_once_and_the_app_goes_on(apps: Apps) -> None:
    app = apps.start('.logs(file="/dev/full").role("back", "./back.py")', back=TALKS)
    client = app.wait_ready(1)
    for n in range(5):
        client.require("back").say(f"line {n}").result(patient(10))
        wait_until(lambda n=n: client.metrics().dropped_lines == n + 1, "the line is counted")
    assert app.stop() == 0
    why = "/dev/full cannot be written: No space left on device."
    assert app.lines == [f"mob | {why} The app keeps running; its output is lost until this is fixed."]


def test_sigusr1_opens_the_file_anew(apps: Apps) -> None:
    app = apps.start('.logs(file="out").role("back", "./back.py")', back=TALKS)
    back = app.wait_ready(1).require("back")
    path, aside = apps.directory / "out", apps.directory / "aside"
    back.say("before").result(patient(10))
    wait_until(lambda: "before" in path.read_text(), "it is written")
    path.rename(aside)
    app.signal(signal.SIGUSR1)
    wait_until(path.exists, "there is a new file")
    back.say("after").result(patient(10))
    wait_until(lambda: "after" in path.read_text(), "it is written")
    assert "after" not in aside.read_text()


def test_an_upgrade_changes_nothing_for_the_file_nor_for_followers(apps: Apps) -> None:
    app = apps.start('.logs(file="out").role("back", "./back.py")', back=TALKS)
    client = app.wait_ready(1)
    back = client.require("back")
    back.say("before").result(patient(10))
    seen = follow(apps, app, "back")
    seen.wait_for(r"\| before$")
    client.upgrade(30)
    back.say("after").result(patient(10))
    seen.wait_for(r"\| after$")
    assert [line.text for line in client.logs("back", last=10)] == ["before", "after"]
    assert app.stop() == 0
    assert seen.wait() == 0
    text = (apps.directory / "out").read_text()
    assert re.findall(r"\| (before|upgrading|the new Kingpin took over|after|stopping)", text) == [
        "before",
        "upgrading",
        "the new Kingpin took over",
        "after",
        "stopping",
    ]


def test_who_follows_a_flood_does_not_put_off_an_upgrade(apps: Apps) -> None:
    app = apps.start(
        '.logs(file="/dev/null").role("flood", "./flood.py")',
        flood="""
            import os, threading

            def flood():
                while True:
                    os.write(1, b"x" * 79 + b"\\n")

            threading.Thread(target=flood, daemon=True).start()
        """,
    )
    client = app.wait_ready(1)
    seen = follow(apps, app)
    seen.wait_for("x", 1000)
    assert client.upgrade(30).startswith("the new Kingpin took over 1 mobster")
    shown = len(seen.lines)
    wait_until(lambda: len(seen.lines) > shown + 1000, "it goes on")


# ------------------------------------------------------------------------------------------------------- bursts

FLOOD = """
    import os

    lines = ("x" * 79 + "\\n").encode() * 100

    def flood(count):
        for _ in range(count // 100):
            os.write(1, lines)
        return os.getpid()
    """


def test_a_flood_costs_only_the_flooding_and_is_counted_by_source(apps: Apps) -> None:
    (apps.directory / "quiet.py").write_text("def say(n):\n    print('quiet', n)\n")
    (apps.directory / "flood.py").write_text("\n".join(line[4:] for line in FLOOD.splitlines()))
    name, total = f"flood-{os.getpid()}", 400_000
    (apps.directory / "main.py").write_text(
        f"import mob\nmob.start({name!r}).base(__file__)"
        '.role("one", "./flood.py").role("two", "./flood.py").role("quiet", "./quiet.py").run()\n'
    )
    os.mkfifo(apps.directory / "stuck")
    source = os.open(apps.directory / "stuck", os.O_RDONLY | os.O_NONBLOCK)
    app = apps.run(name, ["sh", "-c", f"exec '{sys.executable}' main.py >stuck"])
    client = app.wait_ready(3)
    calls = [client.require(role).flood(total) for role in ("one", "two")]
    quiet = client.require("quiet")
    for n in range(100):
        quiet.say(n).result(patient(10))
    for call in calls:
        call.result(patient(30))
    assert client.overview()
    dropped = wait_until(lambda: client.metrics().dropped_lines, "lines were dropped")
    assert client.metrics().memory < 150 * 1024 * 1024
    os.set_blocking(source, True)
    with os.fdopen(source) as reader:
        app.signal(signal.SIGTERM)
        lines = reader.read().splitlines()
    assert app.wait() == 0
    told = [
        match for line in lines if (match := re.fullmatch(r"mob \| ([\d,]+) lines of (\S+) were dropped: .+", line))
    ]
    shown = {name: sum(line.startswith(f"{name} ") for line in lines) for name in ("one.0", "two.0", "quiet.0")}
    missing = {name: sum(int(m[1].replace(",", "")) for m in told if m[2] == name) for name in shown}
    assert shown["quiet.0"] == 100
    assert missing["quiet.0"] == 0
    assert [shown[each] + missing[each] for each in ("one.0", "two.0")] == [total, total]
    assert sum(missing.values()) >= dropped > 0
    assert len(told) < 10


# ----------------------------------------------------------------------------------------------------- followers


def test_a_client_sees_what_was_and_what_comes(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2).role("front", "./back.py")', back=TALKS)
    client = app.wait_ready(3)
    back, front = app.ready(client, "back"), client.require("front")
    for n in range(5):
        client.pid(back[n % 2].pid).send(f"back {n}")
        front.say(f"front {n}").result(patient(10))
    app.wait_for(r"\| (back|front) \d$", 10)

    def texts(target: str | int = "", last: int = 100) -> list[str]:
        return [line.text for line in client.logs(target, last=last)]

    assert sorted(texts()) == sorted(f"{role} {n}" for role in ("back", "front") for n in range(5))
    assert texts("front", 2) == ["front 3", "front 4"]
    assert texts("back", 0) == []
    assert texts("back.1") == texts(back[1].pid) == ["back 1", "back 3"]
    assert texts("back.7") == []
    with pytest.raises(mob.UnknownRole, match="bakc"):
        client.logs("bakc")
    lines = client.logs("front", last=1, follow=True)
    assert next(lines).text == "front 4"
    front.say("front 5").result(patient(10))
    line = next(lines)
    assert (line.text, line.role, line.index, line.is_error) == ("front 5", "front", 0, False)
    lines.close()  # type: ignore[attr-defined]
    assert client.overview()


def test_lines_of_the_dead_are_kept_and_their_followers_hear_the_end(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=TALKS)
    client = app.wait_ready(1)
    (member,) = app.ready(client)
    client.require("back").say("last words").result(patient(10))
    seen = follow(apps, app, str(member.pid))
    seen.wait_for("last words")
    os.kill(member.pid, signal.SIGKILL)
    assert seen.wait() == 0
    assert seen.lines[-1] == f"the worker with pid {member.pid} has ended."
    assert [line.text for line in client.logs(member.pid, last=5, follow=True)] == ["last words"]


def follow_flood(apps: Apps, app: RunningApp, client: mob.Client) -> RunningApp:
    """Return a follower that got a hundred lines: from now on everything printed is shown or counted as missed."""
    client.require("flood").flood(100).result(patient(10))
    wait_until(lambda: len(list(client.logs(last=100))) == 100, "they were read")
    seen = follow(apps, app, "flood", "-n", "100")
    seen.wait_for("x", 100)
    return seen


def test_a_follower_that_stands_still_misses_lines_and_is_told_how_many(apps: Apps) -> None:
    app = apps.start('.logs(file="/dev/null").role("flood", "./flood.py")', flood=FLOOD)
    client, total = app.wait_ready(1), 200_000
    before = client.metrics().memory
    seen = follow_flood(apps, app, client)
    freeze(seen.process.pid)
    client.require("flood").flood(total).result(patient(30))
    assert client.metrics().memory - before < 64 * 1024 * 1024
    os.kill(seen.process.pid, signal.SIGCONT)
    left_out = r"^mob \| ([\d,]+) lines were left out here\.$"
    more = 0

    def is_told() -> bool:  # with the next lines, once there is room for them
        nonlocal more
        more += client.require("flood").flood(100).result(patient(10)) and 100
        return any(re.match(left_out, line) for line in seen.lines)

    wait_until(is_told, "the number is reported")
    assert app.stop() == 0
    assert seen.wait() == 0
    missed = sum(int(match[1].replace(",", "")) for match in seen.wait_for(left_out))
    assert missed > total / 2
    assert sum(line.endswith("x" * 79) for line in seen.lines) + missed == 100 + total + more


def test_a_follower_hears_all_to_the_end_of_the_app(apps: Apps) -> None:
    app = apps.start('.logs(file="/dev/null").role("flood", "./flood.py")', flood=FLOOD)
    client, total = app.wait_ready(1), 50_000
    seen = follow_flood(apps, app, client)
    client.require("flood").flood(total).result(patient(30))
    assert app.stop() == 0
    assert seen.wait() == 0
    assert seen.lines[-1] == f"the app {app.name!r} has ended."
    missed = [re.sub(r"\D", "", line) for line in seen.lines if line.endswith("lines were left out here.")]
    assert sum(line.endswith("x" * 79) for line in seen.lines) + sum(map(int, missed)) == 100 + total


def test_a_follower_that_goes_is_forgotten(apps: Apps) -> None:
    app = apps.start('.logs(file="/dev/null").role("back", "./back.py")', back=TALKS)
    client = app.wait_ready(1)
    seen = follow(apps, app)
    wait_until(lambda: len([m for m in client.members() if not m.role]) == 2, "it has connected")
    seen.process.kill()
    seen.wait()
    wait_until(lambda: len([m for m in client.members() if not m.role]) == 1, "it disconnected")
    client.require("back").say("still").result(patient(10))
    wait_until(lambda: [line.text for line in client.logs(last=9)] == ["still"], "it was printed")


@pytest.mark.parametrize("limit", [4096, 65536])
def test_lines_of_any_length_reach_followers_under_a_small_frame_limit(apps: Apps, limit: int) -> None:
    app = apps.start(
        '.logs(file="/dev/null").role("back", "./back.py")',
        options=f"frame_limit={limit}",
        back="for n in (1, 100, 1000): print('€' * n)\nprint('x' * 500_000)\nfor n in range(3000): print(n)",
    )
    client = app.wait_ready(1)
    wait_until(lambda: [line.text for line in client.logs(last=1)] == ["2999"], "all was printed")
    texts = [line.text for line in client.logs(last=3004)]
    assert texts[-2000:] == [str(n) for n in range(1000, 3000)]
    assert all(len(text.encode()) <= limit for text in texts)


# ------------------------------------------------------------------------------------------------------- mob logs


def test_mob_logs_shows_lines_as_the_terminal_does(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py").role("front", "./back.py")', back=TALKS)
    client = app.wait_ready(2)
    for n in range(60):
        client.require("back").say(f"line {n}").result(patient(10))
    app.wait_for("line 59$")
    (member,) = app.ready(client, "back")
    shown = logs(app)
    assert shown.stdout.splitlines() == [f"back.0 {member.pid} | line {n}" for n in range(10, 60)]
    assert logs(app, "back", "-n", "1").stdout == f"back.0 {member.pid} | line 59\n"
    assert logs(app, "front").stdout == ""
    (line,) = logs(app, str(member.pid), "-n", "1", "--json").stdout.splitlines()
    assert {**json.loads(line), "time": ""} == {
        "time": "",
        "role": "back",
        "index": 0,
        "pid": member.pid,
        "stream": "stdout",
        "message": "line 59",
    }


def test_mob_logs_of_somebody_who_is_not_there(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=TALKS)
    app.wait_ready(1)
    absent = "is not running, and none of its output is kept. `mob ps` lists the workers."
    for target, told in (
        ("bakc", "this app has no role 'bakc'. Did you mean 'back'?"),
        ("back.7", f"back.7 {absent}"),
        ("4194999", f"the worker with pid 4194999 {absent}"),
    ):
        for options in ((), ("-f",)):
            shown = logs(app, target, *options)
            assert (shown.returncode, shown.stdout) == (1, "")
            assert shown.stderr.startswith(f"Error: {told}")


def test_mob_logs_follows_on_a_terminal_until_ctrl_c(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py").role("front", "./back.py")', back=TALKS)
    client = app.wait_ready(2)
    client.require("back").say("one").result(patient(10))
    seen = follow(apps, app, terminal=True)
    seen.wait_for(r"\x1b\[36mback\.0 \d+\x1b\[0m \| one")
    client.require("front").say("two").result(patient(10))
    seen.wait_for(r"\x1b\[33mfront\.0 \d+\x1b\[0m \| two")
    seen.type("\x03")
    assert seen.wait() == 130
    assert "Traceback" not in seen.output
    assert client.overview()


def test_mob_logs_ends_with_the_app(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=TALKS)
    client = app.wait_ready(1)
    seen = follow(apps, app, "--no-color")
    wait_until(lambda: len([m for m in client.members() if not m.role]) == 2, "it has connected")
    client.require("back").say("one").result(patient(10))
    seen.wait_for("one")
    assert app.stop() == 0
    assert seen.wait() == 0
    assert seen.lines[-2:] == ["mob | stopping.", f"the app {app.name!r} has ended."]


def test_mob_run_says_otherwise_than_the_app(apps: Apps) -> None:
    name = f"otherwise-{os.getpid()}"
    apps.write(
        main=f"import mob\nmob.start({name!r}).base(__file__).logs(keep=3).role('back', './back.py').run()\n",
        back="print('hello')",
    )
    options = ["--log-format", "json", "--log-file", "out", "--log-max-bytes", "5000", "--log-keep", "2"]
    app = apps.run(name, [sys.executable, "-m", "mob", "run", *options, "main.py"])
    app.wait_ready(1)
    assert app.stop() == 0
    lines = (apps.directory / "out").read_text().splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["hello", "stopping."]


def test_nobody_is_left_of_a_client_that_stops_reading_for_good(apps: Apps) -> None:
    app = apps.start('.logs(file="/dev/null").role("flood", "./flood.py")', flood=FLOOD)
    client = app.wait_ready(1)
    lines = client.logs(follow=True, last=1)
    client.require("flood").flood(100).result(patient(10))
    assert next(lines).text == "x" * 79
    before = psutil.Process().memory_info().rss
    client.require("flood").flood(400_000).result(patient(30))
    client.metrics()
    assert psutil.Process().memory_info().rss - before < 200 * 1024 * 1024
    texts = [line.text for line in islice(lines, 10_000)]
    assert texts[0] == "x" * 79
