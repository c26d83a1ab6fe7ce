"""`mob profile`: shows where workers spend their time, as flame graphs made by py-spy, which reads their memory.

The workers keep running: nothing of the app is changed, started or called. One py-spy runs for each worker; all end
with this command, however that ends.
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
"""Formats of py-spy by the extension of the file."""
ENDING_TIME = 10.0
"""Seconds that py-spy has to write its file after it is asked to end."""
PR_SET_PDEATHSIG = 1
REFUSED = ("permission denied", "operation not permitted")
NO_SUCH = ("no such file or directory", "no such process", "check that the process is running")


@dataclass
class Recording:
    """One py-spy and the worker that it records."""

    member: Member
    file: Path
    process: subprocess.Popen[str]

    @property
    def who(self) -> str:
        """The worker as shown to users."""
        return f"{self.member.role}.{self.member.index} (pid {self.member.pid})"


@click.command()
@click.argument("target", metavar="ROLE|ROLE.INDEX|PID", shell_complete=complete_role_or_pid)
@click.option("--seconds", type=click.IntRange(1, 24 * 3600), default=10, show_default=True, help="Seconds to record.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Output: .svg for a flame graph, .json for speedscope.app, .txt for folded stacks. Default: ROLE.INDEX.svg",
)
@click.option("--rate", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Samples per second.")
@click.option("--idle", is_flag=True, help="Include idle threads.")
@click.option("--gil", is_flag=True, help="Include only threads that hold the GIL.")
@click.option("--threads", is_flag=True, help="Show each thread separately.")
@click.option("--native", is_flag=True, help="Include frames of extensions in C, C++ and Cython.")
@app_option
def profile(target: str, seconds: int, output: Path | None, rate: int, name: str | None, **flags: bool) -> None:
    """Record where workers spend their time, as a flame graph.

    Requires py-spy (pip install 'mobsters[profile]'). The workers keep running during the recording. If there are
    several, each gets a file of its own. Ctrl-C ends the recording early and keeps what was recorded.
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
            echo(f"recording {counted(len(members), 'worker')} for {seconds} s; Ctrl-C ends it early.", err=True)
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
        raise CommandError(
            f"-o {output}: the file extension selects the format and must be one of {known}.", MISSPELLED
        )
    if not output.absolute().parent.is_dir():
        raise CommandError(f"-o {output}: there is no directory {str(output.parent)!r}.", MISSPELLED)
    return FORMATS[output.suffix]


def _program() -> str:
    """Return the path of py-spy; a `CommandError` says how to install it."""
    beside = Path(sys.executable).parent / "py-spy"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")
    if found is None:
        raise CommandError("`mob profile` needs py-spy. Install it: pip install 'mobsters[profile]'")
    return found


def _meant(name: str | None, target: str) -> list[Member]:
    """Return the selected workers. They must run on this machine, because py-spy sees only local processes."""
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
    """Return the file of one worker.

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
        process_group=0,  # this process forwards Ctrl-C
        preexec_fn=_end_with_the_parent,
    )
    return Recording(member, file, process)


def _end_with_the_parent() -> None:
    """In the child: have the kernel end py-spy if this command is killed. Linux only."""
    if sys.platform == "linux":
        libc: Any = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(recordings: Sequence[Recording], seconds: float | None) -> None:
    """Wait until all have ended, for at most that many seconds; those that are still running are left as they are."""
    deadline = None if seconds is None else monotonic() + seconds
    for each in recordings:
        with suppress(subprocess.TimeoutExpired):
            each.process.wait(None if deadline is None else max(0.0, deadline - monotonic()))


def _tell(recording: Recording, signum: signal.Signals) -> None:
    if recording.process.poll() is None:
        recording.process.send_signal(signum)


def _report(recordings: Sequence[Recording]) -> None:
    """Print which files were written. `CommandError` if one is missing."""
    problems: list[str] = []
    for each in recordings:
        status = each.process.poll()
        said = "" if status is None or each.process.stdout is None else each.process.stdout.read()
        if status == 0 and each.file.exists():
            ended = "; the worker exited during the recording" if "process exited" in said else ""
            echo(f"{each.file}: {each.who}{_samples(said)}{ended}")
        else:
            problems.append(f"{each.who}: {problem_of(said, status)}")
    if problems:
        raise CommandError("\n".join(problems), FAILED)


def _samples(said: str) -> str:
    count = said.partition("Samples: ")[2].partition(" ")[0]
    return f", {counted(int(count), 'sample')}" if count.isdecimal() else ""


def problem_of(said: str, status: int | None) -> str:
    """Return why a recording failed, from the output of py-spy and its exit status."""
    lower = said.lower()
    if any(each in lower for each in REFUSED):
        return (
            "this user may not read other processes (ptrace). In a container, add the capability SYS_PTRACE "
            "(docker run --cap-add SYS_PTRACE; in Kubernetes securityContext.capabilities.add); elsewhere "
            "run `mob profile` as root, or allow it: sysctl kernel.yama.ptrace_scope=0. `mob stacks` needs no such "
            "permission."
        )
    if "no stack counts found" in lower:
        return "it was idle during the recording. --idle shows where it waits."
    if any(each in lower for each in NO_SUCH):
        return "it has exited."
    if status is None:
        return f"py-spy is still running {ENDING_TIME:g} s after it was asked to end."
    lines = [line.removeprefix("Error: ") for line in said.splitlines() if line.strip() and "py-spy>" not in line]
    return f"py-spy failed with status {status}: {lines[0] if lines else 'no output'}"
