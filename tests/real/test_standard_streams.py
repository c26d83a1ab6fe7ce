"""`sys.stdout` and `sys.stderr` of a worker: the streams of an ordinary program whose output goes into a pipe."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.patience import patient
from tests.running import Apps, wait_until

WAYS = {
    "plain": "print('here', flush=True)",
    "original": "sys.stdout = io.StringIO(); sys.stdout = sys.__stdout__; print('here', flush=True)",
    "original of stderr": "print('here', file=sys.__stderr__, flush=True)",
    "reconfigure": "sys.stdout.reconfigure(encoding='utf-8', errors='replace'); print('here', flush=True)",
    "write through": "sys.stdout.reconfigure(write_through=True); print('here', end='\\n')",
    "line buffering": "sys.stderr.reconfigure(line_buffering=True); print('here', file=sys.stderr)",
    "codecs": "sys.stdout = codecs.getwriter('utf-8')(sys.stdout.buffer); print('here', flush=True)",
    "another wrapper": "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, line_buffering=True); print('here')",
    "a wrapper that goes": "io.TextIOWrapper(sys.stdout.buffer).write('he'); gc.collect(); print('re', flush=True)",
    "bytes": "sys.stdout.buffer.write(b'here\\n'); sys.stdout.buffer.flush()",
    "raw": "sys.stdout.buffer.raw.write(b'here\\n')",
    "no end": "print('he', end='', flush=True); print('re')",
    "descriptor": "os.write(sys.stdout.fileno(), b'here\\n')",
    "reopened": "print('here', file=open(1, 'w', closefd=False), flush=True)",
    "duplicate": "print('here', file=os.fdopen(os.dup(sys.stdout.fileno()), 'w'), flush=True)",
    "in C": "libc = ctypes.CDLL(None); libc.puts(b'here'); libc.fflush(None)",
    "child": "subprocess.run(['echo', 'here'], check=True)",
    "child with the stream": "subprocess.run(['echo', 'here'], check=True, stdout=sys.stderr)",
    "shell": "os.system('echo here')",
    "redirected": "with contextlib.redirect_stdout(sys.stderr): print('here')",
    "closed": "sys.stdout.close(); sys.stderr.close(); print('here', flush=True)",
    "buffer closed": "sys.stdout.buffer.close(); print('here', flush=True)",
    "detached": "sys.stdout = io.TextIOWrapper(sys.stdout.detach()); print('here', flush=True)",
    "detached and gone": "sys.stdout.detach(); print('here', flush=True)",
    "logging": "sys.stderr.close(); logging.warning('here')",
}
HEAD = "import codecs, contextlib, ctypes, gc, io, logging, os, subprocess, sys\n"


def role_of(ways: dict[str, str]) -> str:
    lines = [f"    if way == {way!r}:\n        {code}\n" for way, code in ways.items()]
    return HEAD + "def use(way):\n" + "".join(lines)


def test_every_way_to_print_works(apps: Apps) -> None:
    """Each in its own worker because some of them change its streams permanently."""
    roles = "".join(f'.role("way{n}", "./way.py")' for n in range(len(WAYS)))
    app = apps.start(roles, way=role_of(WAYS))
    client = app.wait_ready(len(WAYS))
    for n, way in enumerate(WAYS):
        client.require(f"way{n}").use(way).result(patient(30))
        client.require(f"way{n}").use("").result(patient(30))  # it is alive
    missing = dict(enumerate(WAYS.values()))

    def is_seen() -> bool:
        for n in list(missing):
            if any(line.text.endswith("here") for line in client.logs(f"way{n}", last=9)):
                del missing[n]
        return not missing

    try:
        wait_until(is_seen, "all have been seen")
    except AssertionError:
        assert not missing, app.output


def test_they_behave_as_a_pipe(apps: Apps) -> None:
    role = """
        import sys

        def look():
            found = []
            for stream in (sys.stdout, sys.stderr):
                found += [stream.isatty(), stream.seekable(), stream.writable(), stream.readable(), stream.closed]
            for ask in (sys.stdout.tell, lambda: sys.stdout.seek(0), sys.stdout.buffer.tell):
                try:
                    ask()
                except OSError:
                    found.append("not seekable")
            return found

        def names():
            return [
                (each.name, each.mode, each.fileno(), each.encoding, each.line_buffering)
                for each in (sys.stdout, sys.stderr)
            ]

        def same():
            return sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__
        """
    app = apps.start('.role("back", "./back.py")', back=role)
    back = app.wait_ready(1).require("back")
    assert back.look().result() == [False, False, True, False, False] * 2 + ["not seekable"] * 3
    found = [list(each) for each in back.names().result()]
    assert found == [["<stdout>", "w", 1, "utf-8", True], ["<stderr>", "w", 2, "utf-8", True]]
    assert back.same().result() is True


def test_an_app_whose_output_is_an_ordinary_file(apps: Apps) -> None:
    """The streams are made before the fork, when the descriptors are that file."""
    apps.write(
        main="import mob\nmob.start('ordinary-file').base(__file__).role('back', './back.py').run()\n",
        back="import sys\nsys.stdout.reconfigure(encoding='utf-8')\ndef say(): print('here', flush=True)\n",
    )
    app = apps.run("ordinary-file", ["sh", "-c", f"exec '{sys.executable}' main.py >out 2>&1"])
    app.wait_ready(1).require("back").say().result(patient(30))
    assert app.stop() == 0
    assert "| here\n" in (apps.directory / "out").read_text()


def test_what_a_replaced_stream_holds_is_written_at_the_end(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./back.py")',
        back="import codecs, sys\nsys.stdout = codecs.getwriter('utf-8')(sys.stdout.buffer)\nprint('held')\n",
    )
    app.wait_ready(1)
    assert app.stop() == 0
    assert any(line.endswith("| held") for line in app.lines)


def test_plain_python_agrees() -> None:
    """All those ways work in an ordinary program, except those that close its streams."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for way, code in WAYS.items():
        if "close" in code or "detach()" in way or way in ("a wrapper that goes", "detached and gone"):
            continue
        command = [sys.executable, "-c", f"{HEAD}{code}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        assert "here" in done.stdout + done.stderr, way
