"""Checks running apps: open files and limits, stopped Kingpins, leftovers of dead apps, and who holds the ports.

It only looks from another process, so it works also for an app that does not answer; but whether the other machines of
a cluster can be reached is a question to its Kingpin.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import psutil

from mob import client
from mob.cli.doctor.findings import FAIL, OK, WARN, Finding
from mob.errors import MobError
from mob.rim.addresses import desks, running_apps
from mob.rim.titles import FORK_SERVER, KINGPIN, MOBSTER, app_of


def apps(name: str | None) -> Iterator[Finding]:
    """Yield the findings about each running app of this user, or the named one."""
    names = running_apps()
    for app in names:
        if name in (None, app):
            yield from _app(app)
    if name is not None and name not in names:
        yield Finding(f"app {name}", FAIL, "is not running", "a running app", "Start it, or name its main script.")
    if name is None:
        yield _left_behind(names)


def _app(app: str) -> Iterator[Finding]:
    label = f"app {app}"
    try:
        pid = next((desk.pid for desk in desks(app, os.getuid()) if desk.pid), None)
        if pid is None:
            raise ProcessLookupError
        kingpin = psutil.Process(pid)
    except (OSError, psutil.Error):
        yield Finding(
            label, WARN, "its socket does not answer", "a listening Kingpin (supervisor)", "It may have just ended."
        )
        return
    with contextlib.suppress(psutil.Error):
        if kingpin.status() == psutil.STATUS_STOPPED:
            advice = f"`kill -CONT {kingpin.pid}` resumes it. Until then no worker is restarted."
            yield Finding(
                label, FAIL, f"its Kingpin (supervisor, pid {kingpin.pid}) is stopped", "a running one", advice
            )
        else:
            yield from _cluster(app)
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        family = [kingpin, *kingpin.children(recursive=True)]
    yield _open_files(label, family)
    yield from _ports(label, family)


def _cluster(app: str) -> Iterator[Finding]:
    """Check whether NATS can be reached, if the app is part of a cluster."""
    label = f"cluster of {app}"
    try:
        with client.connect(app) as asked:
            machines, cut = asked.nodes(), asked.cut
    except (MobError, TimeoutError):
        return  # it has just ended, or does not answer, which is reported above
    names = ", ".join(machine.name for machine in machines)
    if cut:
        advice = "Check that the server runs and accepts this machine; `mob nats` starts one. Local work continues."
        yield Finding(label, FAIL, f"the other machines cannot be reached: {cut}", "a reachable NATS server", advice)
    elif machines:
        yield Finding(label, OK, f"{len(machines)} machines: {names}" if len(machines) > 1 else f"only {names} so far")


def _open_files(label: str, family: list[psutil.Process]) -> Finding:
    """Report the process that is nearest to its limit."""
    worst, shown = 0.0, "its open files cannot be read"
    for process in family:
        with contextlib.suppress(psutil.Error):
            used, (limit, _) = process.num_fds(), process.rlimit(psutil.RLIMIT_NOFILE)
            share = used / limit if limit > 0 else 0.0
            if share >= worst:
                worst, shown = (
                    share,
                    f"{len(family)} processes; at most {used} of {limit} files open (pid {process.pid})",
                )
    if worst < 0.8:
        return Finding(label, OK, shown)
    advice = "Check for leaks, or raise the limit: limits={'nofile': ...} of the role, or `ulimit -n`."
    return Finding(label, WARN if worst < 0.95 else FAIL, shown, "less than 80 % of the limit", advice)


def _ports(label: str, family: list[psutil.Process]) -> Iterator[Finding]:
    """Report other programs on the app's ports: with SO_REUSEPORT they receive a part of the requests."""
    own = {process.pid for process in family}
    listening = _listening()
    ports = sorted({port for port, pids in listening.items() if pids & own})
    strangers = {port: sorted(listening[port] - own - {0}) for port in ports if listening[port] - own - {0}}
    for port, pids in strangers.items():
        who = ", ".join(map(name_of, pids))
        advice = "On the same address it receives a part of the requests. Stop it, or use another port."
        yield Finding(label, WARN, f"{who} also listens on its port {port}", "only the app", advice)
    if ports and not strangers:
        yield Finding(label, OK, f"listens on {', '.join(map(str, ports))}")


def port(number: int) -> Finding:
    """Report whether a port is free for the dashboard."""
    label = f"port {number}"
    holders = _listening().get(number)
    if holders is None:
        return Finding(label, OK, "free, for the dashboard")
    who = " and ".join(name_of(pid) for pid in sorted(holders))
    if any(app_of(_command_of(pid), KINGPIN, MOBSTER) for pid in holders):
        return Finding(label, OK, f"held by {who}: an app of mob")
    return Finding(
        label, WARN, f"held by {who}", "free", f"Use another port for the dashboard: dashboard(port={number + 1})."
    )


def _listening() -> dict[int, set[int]]:
    """Return the pids of the processes that listen, by port; 0 for one that this user may not see."""
    found: dict[int, set[int]] = {}
    with contextlib.suppress(psutil.Error, OSError):
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr:
                found.setdefault(each.laddr.port, set()).add(each.pid or 0)
    return found


def _command_of(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline()).strip()
    except (psutil.Error, ValueError):  # of another user, ended, or 0
        return ""


def name_of(pid: int) -> str:
    """Return a process as shown to users."""
    if not pid:
        return "a process of another user"
    shown = _command_of(pid)
    return f"{shown if len(shown) <= 60 else shown[:57] + '...'} (pid {pid})" if shown else f"pid {pid}"


def _left_behind(names: list[str]) -> Finding:
    """Report processes of apps that are no longer running."""
    left: list[str] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            title = _command_of(process.pid) if process.uids().real == os.getuid() else ""
            if (app := app_of(title, FORK_SERVER, MOBSTER)) and app not in names:
                left.append(f"{title} (pid {process.pid})")
    if not left:
        return Finding("leftovers", OK, "none: no socket, shared memory or process of a dead app")
    advice = "They exit by themselves within the grace period of their app. If they do not, `kill` them."
    return Finding("leftovers", WARN, ", ".join(left), "no process of a dead app", advice)
