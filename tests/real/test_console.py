"""The output of mobsters reaches the terminal: as whole lines, in order, with a prefix, and without delay."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

LINE = re.compile(r"(\w+\.\d) (\d+) \| (.*)")


def write_main(apps: Apps, name: str, roles: str, **files: str) -> None:
    """Write the files of an app that a test starts with its own command."""
    apps.write(main=f"import mob\n\nmob.start({name!r}).base(__file__){roles}.run()\n", **files)


def start_into(apps: Apps, name: str, redirections: str, env: dict[str, str] | None = None) -> RunningApp:
    """Start it with its output redirected, as a shell does."""
    return apps.run(name, ["sh", "-c", f"exec {shlex.quote(sys.executable)} main.py {redirections}"], env)


def lines_of(app: RunningApp, role: str) -> dict[str, list[str]]:
    """Return what the mobsters of a role printed, by `role.index pid`; every line must have a prefix."""
    found: dict[str, list[str]] = {}
    for line in app.lines:
        if not line.startswith("mob | "):
            match = LINE.fullmatch(line)
            assert match, f"this line has no prefix: {line[:200]!r}"
            if match[1].startswith(role + "."):
                found.setdefault(f"{match[1]} {match[2]}", []).append(match[3])
    return found


# ---------------------------------------------------------------------------------------------------- whole lines


NOISY = """
import os
import sys

for n in range(3000):
    print(n, os.getpid(), "x" * (n % 500), sep=":")
    if n % 100 == 0:  # and some in pieces
        for piece in ("one ", "line ", "in ", "pieces"):
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
print("done")
"""

SHOUTING = """
import threading

def shout(word):
    for _ in range(2000):
        print(word * 20 + "\\n", end="")

threads = [threading.Thread(target=shout, args=(word,)) for word in "abcd"]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done")
"""

ODD = """
import os

print("\\n\\numl\\u00e4ut \\u20ac \\ud800")
os.write(1, b"raw \\xff\\r\\nend\\n")
"""

LONG = """
print("a" * 1024 * 1024)
print("b" * 4 * 1024 * 1024)
print("done")
"""


@pytest.fixture(scope="module")
def printing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("console")) as apps:
        yield apps.start(
            '.role("noisy", "./noisy.py", workers=4)'
            '.role("shouting", "./shouting.py").role("odd", "./odd.py").role("long", "./long.py")',
            noisy=NOISY,
            shouting=SHOUTING,
            odd=ODD,
            long=LONG,
        )


def test_lines_stay_whole_when_four_processes_print_at_once(printing: RunningApp) -> None:
    printing.wait_for(r"^noisy\.\d \d+ \| done$", 4)
    printed = lines_of(printing, "noisy")
    assert len(printed) == 4
    for name, lines in printed.items():
        pid = name.split()[1]
        wanted: list[str] = []
        for n in range(3000):
            wanted.append(f"{n}:{pid}:{'x' * (n % 500)}")
            wanted += ["one line in pieces"] * (n % 100 == 0)
        assert lines == [*wanted, "done"]


def test_threads_of_one_process_print_whole_lines_too(printing: RunningApp) -> None:
    printing.wait_for(r"^shouting\.\d \d+ \| done$")
    (lines,) = lines_of(printing, "shouting").values()
    assert sorted(lines[:-1]) == sorted(word * 20 for word in "abcd" for _ in range(2000))


def test_empty_lines_and_what_is_no_utf_8_pass(printing: RunningApp) -> None:
    printing.wait_for(r"^odd\.\d \d+ \| end$")
    (lines,) = lines_of(printing, "odd").values()
    assert lines[:3] == ["", "", "umläut € \\ud800"]
    assert lines[3].startswith("raw �")


def test_a_last_line_without_an_end_is_not_lost(apps: Apps) -> None:
    app = apps.start(
        '.role("left", "./left.py").role("killed", "./killed.py").role("stopped", "./stopped.py")',
        left="""
            import sys

            sys.stdout.write("left without an end")
            sys.exit(3)
        """,
        killed="""
            import os, signal

            print("killed without an end", end="", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        stopped="""
            import sys
            import mob

            @mob.on("stop")
            def stop():
                sys.stderr.write("stopped without an end")
        """,
    )
    app.wait_for(r"^left\.0 \d+ \| left without an end$")
    app.wait_for(r"^killed\.0 \d+ \| killed without an end$")
    app.wait_ready(1)
    assert app.stop() == 0
    app.wait_for(r"^stopped\.0 \d+ \| stopped without an end$")


def test_a_line_of_a_megabyte_is_cut_and_nothing_of_it_is_lost(printing: RunningApp) -> None:
    printing.wait_for(r"^long\.\d \d+ \| done$")
    (lines,) = lines_of(printing, "long").values()
    assert max(map(len, lines)) == 64 * 1024
    assert "".join(lines[:-1]) == "a" * 1024 * 1024 + "b" * 4 * 1024 * 1024


# --------------------------------------------------------------------------------------------------- where it goes


def test_stderr_goes_to_stderr(apps: Apps) -> None:
    name = f"streams-{os.getpid()}"
    write_main(
        apps,
        name,
        '.role("two", "./two.py")',
        two="""
            import sys

            print("to stderr", file=sys.stderr)
            print("to stdout")
        """,
    )
    app = start_into(apps, name, ">out.txt 2>err.txt")
    app.wait_ready(1)
    assert app.stop() == 0
    out, err = ((apps.directory / file).read_text() for file in ("out.txt", "err.txt"))
    assert re.fullmatch(r"two\.0 \d+ \| to stdout\n", out)
    assert re.fullmatch(r"two\.0 \d+ \| to stderr\nmob \| stopping\.\n", err)


class Terminal:
    """A terminal of the test, read as fast as data comes."""

    def __init__(self) -> None:
        self.master, self._slave = pty.openpty()
        self.path = os.ttyname(self._slave)
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self.master, 65536):
                self.text += data.decode()
        except OSError:  # no process has it open any more
            return

    def close(self) -> None:
        os.close(self._slave)
        self._reader.join()
        os.close(self.master)


def painted_by(apps: Apps, redirections: str, env: dict[str, str] | None = None) -> str:
    """Return what a terminal shows of an app, once the app has stopped."""
    name = f"colours-{os.getpid()}"
    write_main(
        apps, name, '.role("one", "./say.py").role("two", "./say.py", workers=2)', say="print('painted', 'here')"
    )
    terminal = Terminal()
    app = start_into(apps, name, redirections.format(terminal.path), env)
    app.wait_ready(3)
    wait_until(lambda: terminal.text.count("painted here") == 3, "all was shown")
    assert app.stop() == 0
    terminal.close()
    return terminal.text


def test_a_terminal_gets_a_colour_for_each_role(apps: Apps) -> None:
    text = painted_by(apps, ">{0} 2>&1")
    painted = re.findall(r"\x1b\[(\d+)m(\w+)\.\d \d+\x1b\[0m \| painted here\r\n", text)
    assert len(painted) == 3
    colors = {role: color for color, role in painted}
    assert len(set(colors.values())) == 2
    assert colors["two"] == {role: color for color, role in reversed(painted)}["two"]
    assert "\x1b[1mmob\x1b[0m | stopping." in text


@pytest.mark.parametrize(
    ("redirections", "env"),
    [(">{0} 2>&1", {"NO_COLOR": "1"}), (">{0} 2>err.txt", {})],
    ids=["NO_COLOR is set", "stderr is a file"],
)
def test_there_is_no_colour_where_none_is_wanted(apps: Apps, redirections: str, env: dict[str, str]) -> None:
    assert "\x1b" not in painted_by(apps, redirections, env)


def test_there_is_no_colour_in_a_pipe(printing: RunningApp) -> None:
    printing.wait_for(r"\| done$")
    assert "\x1b" not in printing.output


# ------------------------------------------------------------------------------------------------------ how much


def test_a_burst_of_100_000_lines_arrives_whole(apps: Apps) -> None:
    app = apps.start(
        '.role("burst", "./burst.py", workers=2)',
        burst="""
            for n in range(50_000):
                print(n, "of a burst")
            print("done")
        """,
    )
    client = app.connect()
    assert len(client.overview()) == 2  # the Kingpin answers all the time
    app.wait_for(r"\| done$", 2)
    printed = lines_of(app, "burst")
    wanted = [f"{n} of a burst" for n in range(50_000)]
    assert [lines[:-1] for lines in printed.values()] == [wanted, wanted]
    assert "dropped" not in app.output


def test_a_terminal_that_does_not_read_holds_nobody_up(apps: Apps) -> None:
    name, total = f"stuck-{os.getpid()}", 300_000
    write_main(
        apps,
        name,
        '.role("flood", "./flood.py")',
        flood=f"""
            for n in range({total}):
                print(n, "x" * 100)

            def is_done():
                return True
        """,
    )
    os.mkfifo(apps.directory / "stuck")
    source = os.open(apps.directory / "stuck", os.O_RDONLY | os.O_NONBLOCK)
    app = start_into(apps, name, ">stuck")
    client = app.wait_ready(1)
    assert client.require("flood").is_done().result(patient(20))
    assert len(client.overview()) == 1
    os.set_blocking(source, True)  # like pressing Ctrl-Q
    shown_late: list[bytes] = []
    reader = threading.Thread(target=lambda: shown_late.extend(iter(lambda: os.read(source, 1 << 20), b"")))
    reader.start()
    assert app.stop() == 0
    reader.join()
    os.close(source)
    lines = b"".join(shown_late).decode().splitlines()
    shown = [int(match[1]) for line in lines if (match := re.fullmatch(r"flood\.0 \d+ \| (\d+) x{100}", line))]
    dropped = [
        int(match[1].replace(",", ""))
        for line in lines
        if (match := re.fullmatch(r"mob \| ([\d,]+) lines of flood\.0 were dropped: this terminal is too slow\.", line))
    ]
    assert shown == sorted(set(shown))
    assert len(shown) + len(dropped) == len(lines)
    assert sum(dropped) > 0
    assert len(shown) + sum(dropped) == total


def test_a_terminal_that_is_gone_ends_nobody(apps: Apps) -> None:
    name = f"gone-{os.getpid()}"
    write_main(
        apps,
        name,
        '.role("talker", "./talker.py")',
        talker="""
            import os

            def talk():
                print("x" * 10_000)
                return os.getpid()
        """,
    )
    os.mkfifo(apps.directory / "gone")
    source = os.open(apps.directory / "gone", os.O_RDONLY | os.O_NONBLOCK)
    app = start_into(apps, name, ">gone 2>err.txt")
    client = app.wait_ready(1)
    os.close(source)
    talker = client.require("talker")
    assert len({talker.talk().result(patient(20)) for _ in range(50)}) == 1
    app.signal(signal.SIGTERM)
    assert app.wait() == 0
    assert Path(apps.directory / "err.txt").read_text() == "mob | stopping.\n"
