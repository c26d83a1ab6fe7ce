"""Runs one page in a separate process: `python -m tests.docs.page docs/calls.md DIRECTORY`.

If the system allows it, the process has its own network as well, so its ports and names of apps do not conflict with
those of other pages; otherwise pages take turns. The blocks run in order, in the directory. Every failure is a
`PageError` that says where, what was run, what was seen and what was expected. At the end no started process is left.
"""

from __future__ import annotations

import configparser
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

import mob
from mob import app as apps
from mob.cli import config
from mob.cli.main import main as command_line
from mob.rim.addresses import running_apps
from tests.docs import snippets
from tests.docs.blocks import ROOT, Block, PageError, blocks
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

PATIENCE = patient(60.0)
"""Seconds that one command may take."""
UP, GET_FLAGS, SET_FLAGS = 1, 0x8913, 0x8914
ROLE_FILE = re.compile(r"""["']\./(\w+)\.py["']""")
PROMPT = "$ "
IN_ROLE = """\
import sys
sys.path.insert(0, {root!r})
import mob
from tests.docs import snippets
{proxies}
snippets.run({page!r}, {line}, {text!r}, globals())
print("this block has been run", flush=True)
"""


def apart() -> list[str]:
    """Return the words before the command of a page that give it its own network; nothing if that is not possible."""
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return []


@contextmanager
def alone(is_apart: bool) -> Iterator[None]:
    """Enable the loopback interface of a new network, or wait until no other page runs on this machine."""
    if is_apart:
        with socket.socket() as sock:
            request = struct.pack("16sh14x", b"lo", 0)
            flags = struct.unpack("16sh14x", fcntl.ioctl(sock, GET_FLAGS, request))[1]
            fcntl.ioctl(sock, SET_FLAGS, struct.pack("16sh14x", b"lo", flags | UP))
        yield
        return
    with (Path(tempfile.gettempdir()) / f"mob-docs-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Page:
    """A running page."""

    def __init__(self, page: Path, directory: Path, running: Apps) -> None:
        self._page = page
        self._directory = directory
        self._running = running
        self._names: dict[str, Any] = {"mob": mob, "__name__": "__main__"}  # shared by all client code of the page
        self._clients: list[mob.Client] = []
        binaries = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self._env = {
            "PATH": binaries,
            "HOME": str(directory),
            "XDG_STATE_HOME": str(directory / "state"),  # the same as for apps that `Apps` starts
            "NO_COLOR": "1",
            "COLUMNS": "120",
            "PYTHONUNBUFFERED": "1",
        }

    def run(self) -> None:
        """Run all blocks, in order."""
        if self._page.parent.parent.name == "examples":
            shutil.copytree(self._page.parent, self._directory, dirs_exist_ok=True)
        try:
            for each in blocks(self._page):
                try:
                    getattr(self, f"_run_{each.how}")(each)
                except PageError:
                    raise
                except click.ClickException as error:
                    _fail(each, each.text, error.format_message(), "commands and options that exist")
                except (Exception, SystemExit) as error:
                    told = "".join(traceback.format_exception(error))
                    raise PageError(f"{each.place}: run as {each.how}:\n{each.text}\nseen:\n{told}") from error
        finally:
            for client in self._clients:
                client.close()

    def _run_text(self, each: Block) -> None:
        """Do nothing."""

    def _run_test(self, each: Block) -> None:
        """Do nothing: the named test runs the block, and `blocks` has checked that the test exists."""

    def _run_file(self, each: Block) -> None:
        path = self._directory / each.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(each.text)
        if each.language == "python":
            compile(each.text, each.title, "exec", dont_inherit=True)
        elif each.language != "text":
            self._run_data(each)

    def _run_data(self, each: Block) -> None:
        if each.language == "json":
            for value in [each.text] if each.text.startswith(("{\n", "[\n")) else each.text.splitlines():
                json.loads(value)
        elif each.language == "ini":
            configparser.ConfigParser(strict=False, interpolation=None).read_string(each.text)
        else:
            table = tomllib.loads(each.text)
            if each.title.endswith("mob.toml") or "mob" in table.get("tool", {}):
                self._check_described(each)

    def _check_described(self, each: Block) -> None:
        place = self._directory / ("mob.toml" if each.title.endswith("mob.toml") else "pyproject.toml")
        place.write_text(each.text)
        self._write_missing_roles(each.text)
        config.described(place)._has_run = True  # it must not run

    def _write_missing_roles(self, text: str) -> None:
        for name in ROLE_FILE.findall(text):
            (self._directory / f"{name}.py").touch()

    def _run_script(self, each: Block) -> None:
        self._settle()
        file = self._directory / "_script.py"
        file.write_text(each.text)
        command = [sys.executable, "-m", "tests.docs.snippets", str(each.page), str(each.line), str(file)]
        paths = os.pathsep.join([str(self._directory), str(ROOT)])
        done = self._finished(each, command, {**self._environment(), "PYTHONPATH": paths})
        if done.returncode:
            _fail(each, each.text, done.stdout, "status 0")

    def _run_client(self, each: Block) -> None:
        if "app" not in self._names:
            self._settle()
            names = running_apps()
            if len(names) != 1:
                _fail(each, "mob.connect(...)", f"running apps: {names}", "one, started by a block above")
            self._names["app"] = self._clients_own(names[0])
        with _here(self._directory):
            snippets.run(str(each.page), each.line, each.text, self._names)

    def _clients_own(self, name: str) -> mob.Client:
        self._clients.append(mob.connect(name))
        return self._clients[-1]

    def _run_plan(self, each: Block) -> None:
        self._write_missing_roles(each.text)
        (self._directory / "main.py").touch()  # the file in which the block could be
        made: list[mob.App] = []

        class Planned(Exception):
            """The app would run now."""

        def stop(app: mob.App) -> None:
            made.append(app)
            raise Planned

        app = mob.start("myapp").base(self._directory)
        apps.before_run.append(stop)
        names = {"mob": mob, "app": app, "__file__": str(self._directory / "main.py"), "__name__": "__main__"}
        try:
            with _here(self._directory):
                snippets.run(str(each.page), each.line, each.text, names)
        except Planned:
            pass
        finally:
            apps.before_run.remove(stop)
            for every in (app, *made, *(value for value in names.values() if isinstance(value, mob.App))):
                every._has_run = True  # it must not run

    def _run_in(self, each: Block) -> None:
        """Run the block as the code of a role, next to one role for each file of the page that describes no app."""
        sources = {path.stem: path for path in self._directory.glob("*.py") if "mob.start(" not in path.read_text()}
        others = sorted(name for name in sources if name != each.what and not name.startswith("_"))
        proxies = "\n".join(f"{name} = mob.require({name!r})" for name in others)
        text = IN_ROLE.format(root=str(ROOT), proxies=proxies, page=str(each.page), line=each.line, text=each.text)
        (self._directory / "_in.py").write_text(text)
        roles = "".join(f".role({name!r}, './{name}.py')" for name in others)
        roles += f".role({each.what!r}, './_in.py', restart='temporary')"
        name = f"line-{each.line}"
        main = f"import mob\n\nmob.start({name!r}).base(__file__){roles}.run()\n"
        (self._directory / "_main.py").write_text(main)
        app = self._running.run(name, [sys.executable, "_main.py"], self._environment())
        end = app.wait_for(r"this block has been run|Traceback|SyntaxError|was killed(?! because)|exited with status")[
            0
        ]
        if not end[0].startswith("this block"):
            app.stop()
            _fail(each, each.text, app.output, f"a role {each.what} that runs this to its end")
        app.end()
        self._running.running.remove(app)

    def _run_background(self, each: Block) -> None:
        before = running_apps()
        ((command, wanted),) = _commands(each)
        app = self._running.run("", ["bash", "-c", f"exec {command}"], self._environment())
        try:
            for line in wanted:
                app.wait_for(_pattern(line))
            if not wanted:
                wait_until(lambda: running_apps() != before or app.process.poll() is not None, "an app runs")
        except AssertionError:
            _fail(each, command, app.output, "\n".join(wanted) or "an app that runs")
        if not _in_order(app, wanted):
            _fail(each, command, app.output, "in this order:\n" + "\n".join(wanted))

    def _settle(self) -> None:
        """Wait until all started apps are ready, as a reader would before typing the next line."""
        for name in running_apps():
            with mob.connect(name) as client:
                wait_until(lambda c=client: _is_ready(c), f"{name} is ready")

    def _run_shell(self, each: Block, status: int = 0) -> None:
        self._settle()
        commands = _commands(each)
        for number, (command, wanted) in enumerate(commands):
            done = self._finished(each, ["bash", "-c", command], self._environment())
            expected = status if number == len(commands) - 1 else 0
            seen = [line.rstrip() for line in done.stdout.rstrip().splitlines()]
            if done.returncode != expected:
                _fail(each, command, f"{done.stdout}\nstatus {done.returncode}", f"status {expected}")
            if not re.fullmatch("".join(map(_pattern_of_line, wanted)), "".join(f"{line}\n" for line in seen)):
                _fail(each, command, "\n".join(seen), "\n".join(wanted))

    def _run_status(self, each: Block) -> None:
        self._run_shell(each, int(each.what))

    def _run_parse(self, each: Block) -> None:
        for command, _ in _commands(each):
            for words in _parts(command):
                for word in words:
                    if word.endswith((".py", ".toml")) and "/" not in word and not (self._directory / word).exists():
                        (self._directory / word).touch()  # a file that the reader would have
                with _here(self._directory):
                    _check_command(each, words)

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MOB_", "XDG_", "PYTEST"))}
        return {**kept, **self._env}

    def _finished(self, each: Block, command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                cwd=self._directory,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired as error:
            seen = error.output.decode(errors="replace") if error.output else ""
            _fail(each, shlex.join(command), seen, f"its end within {PATIENCE:.0f} s")


def _is_ready(client: mob.Client) -> bool:
    """Return whether all workers of the app are ready."""
    rows = client.overview()
    return bool(rows) and all(row.state == "ready" for row in rows)


def _fail(each: Block, ran: str, seen: str, wanted: str) -> NoReturn:
    raise PageError(f"{each.place}: run as {each.how}:\n{ran}\n\nseen:\n{seen}\n\nwanted:\n{wanted}")


@contextmanager
def _here(directory: Path) -> Iterator[None]:
    """Run within the directory, with its modules importable."""
    before = Path.cwd()
    os.chdir(directory)
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        os.chdir(before)
        sys.path.remove(str(directory))


def _commands(each: Block) -> list[tuple[str, list[str]]]:
    """Return the lines with a prompt, each with its output; a line that ends in a backslash continues."""
    found: list[tuple[str, list[str]]] = []
    for line in each.text.splitlines():
        if line.startswith(PROMPT):
            found.append((line.removeprefix(PROMPT), []))
        elif not found:
            raise PageError(f"{each.place}: {line!r} comes before any command. Expected: '$ ' before each command.")
        elif found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        else:
            found[-1][1].append(line.rstrip())
    if not found or (each.how == "background" and len(found) != 1):
        raise PageError(f"{each.place}: {len(found)} commands in this block. Expected: one, after '$ '.")
    return found


def _pattern(line: str) -> str:
    return re.escape(line).replace(re.escape("..."), ".*")


def _pattern_of_line(line: str) -> str:
    return r"(.*\n)*" if line.strip() == "..." else rf"{_pattern(line)}\n"


def _in_order(app: RunningApp, wanted: list[str]) -> bool:
    lines = iter(app.lines)
    return all(any(re.search(_pattern(line), seen) for seen in lines) for line in wanted)


def _parts(command: str) -> list[list[str]]:
    """Return the commands of a shell line, without redirections."""
    words = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    words.whitespace_split = True
    parts: list[list[str]] = [[]]
    skips = False
    for word in words:
        if word[0] in "|&;":
            parts.append([])
        elif word[0] in "<>":
            skips = True
        elif skips:
            skips = False
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def _check_command(each: Block, words: list[str]) -> None:
    """Fail unless the command exists and accepts these options."""
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    if words[:1] == ["make"]:
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        unknown = [word for word in words[1:] if "=" not in word and word not in targets]
        if unknown:
            _fail(each, shlex.join(words), f"no target {unknown[0]}", f"one of {', '.join(targets)}")
    if words[:1] != ["mob"]:
        return
    with command_line.make_context("mob", words[1:], resilient_parsing=False) as context:
        name, command, rest = command_line.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        command.make_context(name, rest, parent=context).close()


def main() -> int:
    """Run the page that the command line names, and print failures to the standard output."""
    page, directory, is_apart = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that started processes are ended
    try:
        with alone(bool(is_apart)), apps_in(Path(directory)) as running:
            Page(Path(page), Path(directory), running).run()
    except AssertionError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
