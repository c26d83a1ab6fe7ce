"""`mob doctor`: collects the findings and draws them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from rich import box
from rich.table import Table
from rich.text import Text

from mob.cli.apps import FAILED, CommandError, app_option, json_option, print_json
from mob.cli.described import DASHBOARD, AppDescription, described
from mob.cli.doctor import facts, findings, modules, running
from mob.cli.doctor.findings import FAIL, OK, WARN, Finding
from mob.cli.output import console, echo
from mob.errors import MobError

STYLES = {OK: "green", WARN: "yellow", FAIL: "bold red"}
ADVICE = {OK: "dim", WARN: "yellow", FAIL: "red"}


@click.command()
@click.argument("script", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--imports", is_flag=True, help="Measure how long the imports of each role take; this runs them.")
@json_option
@app_option
def doctor(script: Path | None, imports: bool, as_json: bool, name: str | None) -> None:
    """Look for likely problems of the machine and of apps.

    It checks limits, ports, memory, slow imports and kernel settings. SCRIPT is the main script of an app, or a TOML
    file that describes one; it is read, not run (modules in preload(...) are imported in a separate process). Without
    it, this machine and the running apps are checked.

    The exit status is 1 if something will not work.
    """
    try:
        known = None if script is None else described(script)
    except (MobError, OSError) as error:
        raise CommandError(str(error)) from error
    if imports and known is None:
        raise click.UsageError(
            "--imports measures the roles of an app: name its main script, as in `mob doctor main.py`."
        )
    found = list(_findings(known, imports, name))
    if as_json:
        print_json(found)
    else:
        _draw(found, known)
    if any(each.verdict == FAIL for each in found):
        raise SystemExit(FAILED)


def _findings(known: AppDescription | None, imports: bool, name: str | None) -> Iterator[Finding]:
    plan = None if known is None else known.plan
    yield from findings.judge(facts.look(), plan)
    yield running.port(DASHBOARD if known is None or known.dashboard is None else known.dashboard)
    if plan is not None:
        yield from modules.findings(plan, imports)
    if plan is None or name is not None:
        yield from running.apps(name)


def _draw(found: list[Finding], known: AppDescription | None) -> None:
    screen = console(highlight=False)
    for warning in () if known is None else known.warnings:
        echo(f"Warning: {warning}", err=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title=_title(known))
    table.add_column("", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("found", overflow="fold", ratio=1)
    for each in found:
        told = Text(each.seen)
        if each.wanted and each.verdict != OK:
            told.append(f"\nexpected: {each.wanted}", "dim")
        if each.advice:
            told.append(f"\n{each.advice}", ADVICE[each.verdict])
        table.add_row(Text(each.verdict, STYLES[each.verdict]), each.check, told)
    screen.print(table)
    screen.print(_sum(found))


def _title(known: AppDescription | None) -> str:
    if known is None:
        return "this machine"
    roles = ", ".join(f"{role.name} x {role.workers}" for role in known.plan.roles)
    return f"this machine, for {known.plan.name}: {roles or 'no roles'}"


def _sum(found: list[Finding]) -> Text:
    fails, warns = (sum(each.verdict == verdict for each in found) for verdict in (FAIL, WARN))
    if not fails and not warns:
        return Text(f"All {len(found)} checks passed.", STYLES[OK])
    told = Text()
    if fails:
        told.append(f"{fails} failed", STYLES[FAIL]).append(", " if warns else ".")
    if warns:
        told.append(f"{warns} may cause problems", STYLES[WARN]).append(".")
    return told
