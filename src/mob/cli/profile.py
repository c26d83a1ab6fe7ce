"""`mob profile`: what workers spend their time with, as flame graphs; by py-spy, which looks in from outside.

The workers run on as they are: nothing of the app is changed, started or called. One py-spy runs for each of them; all
end with this command, however that ends.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import click

from mob.cli.apps import FAILED, MISSPELLED, CommandError, app_option, complete_role_or_pid, connected
from mob.cli.output import echo
from mob.core.selector import mobsters_meant, parted
from mob.errors import counted
from mob.wire.messages import Member

FORMATS = {
    ".svg": "flamegraph",
    ".json": "speedscope",
    ".speedscope": "speedscope",
    ".txt": "raw",
    ".raw": "raw",
    ".folded": "raw",
}
"""The formats of py-spy by the end of the file's name."""
ENDING_TIME = 10.0
"""Seconds that py-spy has to write its file when it is told to end."""
PR_SET_PDEATHSIG = 1
REFUSED = ("permission denied", "operation not permitted")
NO_SUCH = ("no such file or directory", "no such process", "check that the process is running")


@dataclass
class Recording:
    """One py-spy."""

    member: Member
    file: Path
    process: subprocess.Popen[str]

    @property
    def who(self) -> str:
        """The worker, as people read it."""
        return f"{self.member.role}.{self.member.index} (pid {self.member.pid})"


@click.command()
@click.argument("target", metavar="ROLE|ROLE.INDEX|PID", shell_complete=complete_role_or_pid)
@click.option(
    "--seconds", type=click.IntRange(1, 24 * 3600), default=10, show_default=True, help="How long to look at it."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file: .svg is a flame graph, .json for speedscope.app, .txt folded stacks. Default: ROLE.INDEX.svg",
)
@click.option("--rate", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Samples per second.")
@click.option("--idle", is_flag=True, help="Include threads that wait.")
@click.option("--gil", is_flag=True, help="Only threads that hold the interpreter's lock.")
@click.option("--threads", is_flag=True, help="Show each thread for itself.")
@click.option("--native", is_flag=True, help="Include frames of extensions in C, C++ and Cython.")
@app_option
def profile(target: str, seconds: int, output: Path | None, rate: int, name: str | None, **flags: bool) -> None:
    """Record what workers spend their time with, as a flame graph.

    Needs py-spy (pip install 'mobsters[profile]'). The workers run on while they are looked at. Of several workers each
    has a file of its own. Ctrl-C ends it early and keeps what was recorded.
    """
    form = "flamegraph" if output is None else _format_of(output)
    program = _program()
    members = _meant(name, target)
    options = ["--format", form, "--duration", str(seconds), "--rate", str(rate)]
    options += [f"--{flag}" for flag, is_set in flags.items() if is_set]
    recordings: list[Recording] = []
    try:
        try:
            for member in members:
                recordings.append(_begin(program, options, member, _file_for(output, member, len(members))))
            echo(f"looking at {counted(len(members), 'worker')} for {seconds} s; Ctrl-C ends it early.", err=True)
            _wait(recordings, None)
        except KeyboardInterrupt:
            for each in recordings:
                _tell(each, signal.SIGINT)  # it writes what it has
            _wait(recordings, ENDING_TIME)
            _report(recordings)
            raise
        _report(recordings)
    finally:
        for each in recordings:
            _tell(each, signal.SIGKILL)
            each.process.wait()


def _format_of(output: Path) -> str:
    if output.suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise CommandError(f"-o {output}: the name must end with one of {known}, which says the format.", MISSPELLED)
    if not output.absolute().parent.is_dir():
        raise CommandError(f"-o {output}: there is no directory {str(output.parent)!r}.", MISSPELLED)
    return FORMATS[output.suffix]


def _program() -> str:
    """The path of py-spy; a `CommandError` says where to get it."""
    beside = Path(sys.executable).parent / "py-spy"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")
    if found is None:
        raise CommandError("`mob profile` needs py-spy. Install it: pip install 'mobsters[profile]'")
    return found


def _meant(name: str | None, target: str) -> list[Member]:
    """The workers that are meant. They have to be here: another machine's processes can only be seen there."""
    node, rest = parted(target)
    with connected(name, any_node=True) as app:
        if node and node != app.node:
            raise CommandError(
                f"{target!r} is on the machine {node!r}, and only processes of this machine can be profiled. Run "
                f"`mob profile {rest}` on {node!r}.",
                MISSPELLED,
            )
        context = app._context  # pyright: ignore[reportPrivateUsage]
        return mobsters_meant(context.roster, context.uid, rest)


def _file_for(output: Path | None, member: Member, count: int) -> Path:
    """The file of one worker.

    >>> back = Member(1, 42, "back", 2, 1, "ready")
    >>> [_file_for(output, back, 4).name for output in (Path("flame.svg"), None)]
    ['flame-back.2.svg', 'back.2.svg']
    """
    if output is None:
        return Path(f"{member.role}.{member.index}.svg")
    return output if count == 1 else output.with_name(f"{output.stem}-{member.role}.{member.index}{output.suffix}")


def _begin(program: str, options: Sequence[str], member: Member, file: Path) -> Recording:
    process = subprocess.Popen(
        [program, "record", "--pid", str(member.pid), "--output", str(file), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # Ctrl-C is told to it by this process
        preexec_fn=_end_with_the_parent,
    )
    return Recording(member, file, process)


def _end_with_the_parent() -> None:
    """In the child: should this command be killed, the kernel tells py-spy to end. Linux only."""
    if sys.platform == "linux":
        libc: Any = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(recordings: Sequence[Recording], seconds: float | None) -> None:
    """Wait until all have ended; those that have not after so many seconds stay as they are."""
    deadline = None if seconds is None else monotonic() + seconds
    for each in recordings:
        with suppress(subprocess.TimeoutExpired):
            each.process.wait(None if deadline is None else max(0.0, deadline - monotonic()))


def _tell(recording: Recording, signum: signal.Signals) -> None:
    if recording.process.poll() is None:
        recording.process.send_signal(signum)


def _report(recordings: Sequence[Recording]) -> None:
    """Say which files there are. `CommandError` if one is missing."""
    problems: list[str] = []
    for each in recordings:
        status = each.process.poll()
        said = "" if status is None or each.process.stdout is None else each.process.stdout.read()
        if status == 0 and each.file.exists():
            ended = "; it ended meanwhile" if "process exited" in said else ""
            echo(f"{each.file}: {each.who}{_samples(said)}{ended}")
        else:
            problems.append(f"{each.who}: {problem_of(said, status)}")
    if problems:
        raise CommandError("\n".join(problems), FAILED)


def _samples(said: str) -> str:
    count = said.partition("Samples: ")[2].partition(" ")[0]
    return f", {counted(int(count), 'sample')}" if count.isdecimal() else ""


def problem_of(said: str, status: int | None) -> str:
    """What is said of a recording that has failed, by what py-spy has printed and its exit status."""
    lower = said.lower()
    if any(each in lower for each in REFUSED):
        return (
            "the system does not let this user look into it (ptrace). In a container, give it the capability "
            "SYS_PTRACE (docker run --cap-add SYS_PTRACE; in Kubernetes securityContext.capabilities.add); elsewhere "
            "run `mob profile` as root, or allow it: sysctl kernel.yama.ptrace_scope=0. `mob stacks` needs none of "
            "this."
        )
    if "no stack counts found" in lower:
        return "it did nothing while it was looked at. --idle shows where it waits."
    if any(each in lower for each in NO_SUCH):
        return "it has ended."
    if status is None:
        return f"py-spy has not ended {ENDING_TIME:g} s after it was told to."
    lines = [line.removeprefix("Error: ") for line in said.splitlines() if line.strip() and "py-spy>" not in line]
    return f"py-spy failed with status {status}: {lines[0] if lines else 'it said nothing'}"
