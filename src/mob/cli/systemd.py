"""`mob systemd`: a unit file for an app, printed. What it says of the app is read, not run (`cli/described.py`).

Limits: the unit is for the machine and the user that it is printed on, for it names this Python and this directory.
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

import click

from mob.cli.apps import CommandError
from mob.cli.described import described
from mob.cli.doctor.findings import BASE_DESCRIPTORS, FOR_EACH_MOBSTER, count_of
from mob.cli.output import echo
from mob.errors import MobError
from mob.plan import Plan

NOFILE = 65536
"""Open files, unless the app needs more: room for the connections of servers."""
SLACK = 10
"""Seconds that systemd waits for longer than mob does."""
WATCHDOG = 30
"""Seconds without a sign of life after which systemd restarts the app; the Kingpin gives one twice as often."""


@click.command()
@click.argument("script", metavar="SCRIPT|FILE.toml", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--user", "is_users", is_flag=True, help="For your own systemd (`systemctl --user`), not the system's.")
@click.option("--name", help="The unit's name; the app's, if none is said.")
def systemd(script: Path, is_users: bool, name: str | None) -> None:
    """Print a systemd unit that runs an app: `mob systemd main.py > myapp.service`."""
    try:
        known = described(script)
    except (MobError, OSError) as error:
        raise CommandError(str(error)) from error
    for warning in known.warnings:
        echo(f"Warning: {warning}", err=True)
    user = pwd.getpwuid(os.getuid()).pw_name
    echo(unit(known.plan, script, sys.executable, name or known.plan.name, "" if is_users else user), nl=False)


def unit(plan: Plan, script: Path, python: str, name: str, user: str) -> str:
    """The text of the unit. `user`: as whom the system's systemd runs it; "" for a unit of the user's own."""
    script = script.absolute()
    words = [python, "-m", "mob", "run", str(script)] if script.suffix == ".toml" else [python, str(script)]
    where, control = ("/etc/systemd/system", "systemctl") if user else ("~/.config/systemd/user", "systemctl --user")
    lines = [
        f"# {name}.service, written by `mob systemd`. Put it into {where}, then:",
        f"#   {control} daemon-reload && {control} enable --now {name}",
        "[Unit]",
        f"Description={_plain(name)}, run by mob",
        *(["Wants=network-online.target", "After=network-online.target"] if user else []),
        "",
        "[Service]",
        "# The Kingpin says when every role is ready, and around each reload. It keeps its pid, also in `mob upgrade`.",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={' '.join(map(_word, words))}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"WorkingDirectory={_plain(str(script.parent))}",
        *([f"User={user}"] if user not in ("", "root") else []),
        *(["# It runs as root, unless a line `User=` says otherwise."] if user == "root" else []),
        "",
        f"# Every role may take its boot_timeout; a stop may take the grace time ({plan.grace:g} s).",
        f"TimeoutStartSec={_start(plan)}",
        f"TimeoutStopSec={plan.grace + SLACK:g}",
        f"WatchdogSec={WATCHDOG}",
        "# SIGTERM goes to the Kingpin, which stops the roles in order; what is left after the time is killed.",
        "KillMode=mixed",
        "Restart=on-failure",
        "RestartSec=1",
        "# A worker that the kernel ends for want of memory is revived; that is no reason to stop the app.",
        "OOMPolicy=continue",
        f"LimitNOFILE={nofile(plan)}",
        "",
        "[Install]",
        f"WantedBy={'multi-user.target' if user else 'default.target'}",
    ]
    return "\n".join(lines) + "\n"


def nofile(plan: Plan) -> int:
    """Open files for each process."""
    needed = 2 * (BASE_DESCRIPTORS + FOR_EACH_MOBSTER * count_of(plan))
    return max(NOFILE, needed, *(role.limits.get("nofile", 0) for role in plan.roles), 0)


def _start(plan: Plan) -> str:
    """Roles that need others start after them, so the times add up."""
    times = [role.boot_timeout for role in plan.roles]
    return "infinity" if None in times else f"{sum(each or 0 for each in times) + SLACK:g}"


def _plain(text: str) -> str:
    """A value in which systemd expands nothing."""
    return text.replace("\\", "\\\\").replace("%", "%%")


def _word(text: str) -> str:
    """A word of a command, quoted if it must be."""
    escaped = _plain(text).replace("$", "$$").replace('"', '\\"')
    return f'"{escaped}"' if any(char in " \t'\"\\;" for char in escaped) or not escaped else escaped
