import os

import msgspec
import pytest

from mob.rim import crashes
from mob.rim.crashes import MOST, Crash, Crashes, folder, read, shortened
from mob.wire.messages import Running

CRASH = Crash(
    at=1_700_000_000.0,
    app="myapp",
    role="back",
    index=2,
    pid=4242,
    generation=3,
    why="was killed by SIGSEGV",
    uptime=12.34,
    memory=50 * 1024 * 1024,
    running=(Running("back.foo", 1.5, "front.0 (pid 7)"),),
    stacks="Thread 1\n  foo",
    lines=("first", "last"),
)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def written(crash=CRASH):
    """Return the report as it is read back, with its path."""
    name = f"{int(crash.at * 1000):015d}-{crash.role}.{crash.index}-{crash.pid}.json"
    return msgspec.structs.replace(crash, path=str(folder("myapp") / name))


def test_it_outlives_the_one_who_wrote_it():
    assert Crashes("myapp").add(CRASH) == written()
    assert os.path.exists(written().path)
    again = Crashes("myapp")
    assert again.all() == [written()]
    assert again.last("back") == written()
    assert again.last("front") is None
    assert Crashes("another").all() == []


def test_the_oldest_go():
    log = Crashes("myapp")
    for number in range(MOST + 5):
        log.add(msgspec.structs.replace(CRASH, at=CRASH.at + number))
    assert [crash.at - CRASH.at for crash in log.all()] == list(range(5, MOST + 5))


def test_what_cannot_be_read_is_passed_over():
    log = Crashes("myapp")
    log.add(CRASH)
    (folder("myapp") / f"{0:015d}-x.json").write_bytes(b"{half a rep")
    (folder("myapp") / "notes.txt").write_text("x")
    assert log.all() == [written()]


def test_where_nothing_can_be_written_it_is_kept_and_told(state):
    (state / "mob").write_text("a file in the way")
    log = Crashes("myapp")
    assert log.add(CRASH) == CRASH
    assert log.problem == f"crash reports cannot be written to {folder('myapp')}: Not a directory"
    assert log.last("back") == CRASH
    (state / "mob").unlink()
    log.add(CRASH)
    assert log.problem == ""


def test_how_it_is_read(monkeypatch):
    monkeypatch.setattr(crashes.time, "localtime", crashes.time.gmtime)
    assert CRASH.text().splitlines() == [
        "2023-11-14 22:13:20  myapp: back.2 (pid 4242) was killed by SIGSEGV",
        "uptime 12.3 s, 50 MiB resident at the last heartbeat",
        "calls in progress at the last heartbeat:",
        "    back.foo for 1.5 s, from front.0 (pid 7)",
        "stacks:",
        "    Thread 1",
        "      foo",
        "last lines of output:",
        "    first",
        "    last",
    ]


@pytest.mark.parametrize(
    ("stacks", "heading"),
    [
        ("Traceback (most recent call last):\n  File ...\nZeroDivisionError: division by zero\n", "traceback:"),
        ("  + Exception Group Traceback (most recent call last):\n  |   File ...", "traceback:"),
        ("SystemExit: the module called sys.exit(1) while it was imported.", "error:"),
        ("thread MainThread:\n  File ...", "stacks:"),
    ],
)
def test_the_heading_says_what_follows(stacks, heading):
    lines = msgspec.structs.replace(CRASH, stacks=stacks, memory=0, running=()).text().splitlines()
    assert lines[1:3] == ["uptime 12.3 s", heading]


def test_a_report_for_a_letter_is_short():
    long = msgspec.structs.replace(
        CRASH, stacks="x" * 1_000_000, lines=("y" * 100_000,) * 50, running=CRASH.running * 999
    )
    short = msgspec.json.encode(shortened(long))
    assert len(short) < 100_000
    crash = read(short)
    assert crash is not None
    assert crash.pid == CRASH.pid
    assert shortened(CRASH) == CRASH
