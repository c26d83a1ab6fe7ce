"""`mob systemd`: prints a unit file for an app, whose description is read and not run (`cli/described.py`).

Limits: the unit is for the machine and user that it is printed on, because it names this Python and this directory.
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
"""Open files, unless the app needs more: enough for the connections of servers."""
SLACK = 10
"""Seconds that systemd waits longer than mob does."""
WATCHDOG = 30
"""Seconds without a sign of life after which systemd restarts the app; the Kingpin sends one twice as often."""


@click.command()
@click.argument("script", metavar="SCRIPT|FILE.toml", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--user", "is_users", is_flag=True, help="Print a unit for `systemctl --user` instead of the system's systemd."
)
@click.option("--name", help="Name of the unit. Default: the app's name.")
def systemd(script: Path, is_users: bool, name: str | None) -> None:
    """Print a systemd unit that runs an app.

    For example `mob systemd main.py > myapp.service`.
    """
    try:
        known = described(script)
    except (MobError, OSError) as error:
        raise CommandError(str(error)) from error
    for warning in known.warnings:
        echo(f"Warning: {warning}", err=True)
    user = pwd.getpwuid(os.getuid()).pw_name
    echo(unit(known.plan, script, sys.executable, name or known.plan.name, "" if is_users else user), nl=False)


def unit(plan: Plan, script: Path, python: str, name: str, user: str) -> str:
    """Return the text of the unit.

    `user`: the user that the system's systemd runs it as; "" for a unit of `systemctl --user`.
    """
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
        "# The Kingpin reports when every role is ready, and around each reload. `mob upgrade` keeps its pid.",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={' '.join(map(_word, words))}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"WorkingDirectory={_plain(str(script.parent))}",
        *([f"User={user}"] if user not in ("", "root") else []),
        *(["# It runs as root, unless you add a line `User=`."] if user == "root" else []),
        "",
        f"# Every role may take its boot_timeout to start; a stop may take the grace period (grace={plan.grace:g} s).",
        f"TimeoutStartSec={_start(plan)}",
        f"TimeoutStopSec={plan.grace + SLACK:g}",
        f"WatchdogSec={WATCHDOG}",
        "# SIGTERM goes to the Kingpin, which stops the roles in order; after TimeoutStopSec all processes are killed.",
        "KillMode=mixed",
        "Restart=on-failure",
        "RestartSec=1",
        "# mob restarts a worker that the kernel kills when memory runs out; the app need not stop for that.",
        "OOMPolicy=continue",
        f"LimitNOFILE={nofile(plan)}",
        "",
        "[Install]",
        f"WantedBy={'multi-user.target' if user else 'default.target'}",
    ]
    return "\n".join(lines) + "\n"


def nofile(plan: Plan) -> int:
    """Return the limit of open files for each process."""
    needed = 2 * (BASE_DESCRIPTORS + FOR_EACH_MOBSTER * count_of(plan))
    return max(NOFILE, needed, *(role.limits.get("nofile", 0) for role in plan.roles), 0)


def _start(plan: Plan) -> str:
    """Return the time for the start: roles that need others start after them, so the timeouts add up."""
    times = [role.boot_timeout for role in plan.roles]
    return "infinity" if None in times else f"{sum(each or 0 for each in times) + SLACK:g}"


def _plain(text: str) -> str:
    """Return a value in which systemd expands nothing."""
    return text.replace("\\", "\\\\").replace("%", "%%")


def _word(text: str) -> str:
    """Return a word of a command, quoted if necessary."""
    escaped = _plain(text).replace("$", "$$").replace('"', '\\"')
    return f'"{escaped}"' if any(char in " \t'\"\\;" for char in escaped) or not escaped else escaped
