"""`python -m mob.cli.chaos.runner main.py ...`: runs an app's main script with the two roles of a chaos run added.

The script is run as by `mob run`. When it calls `.run()`, the plan is written to a file for the conductor.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from mob import app as apps
from mob.app import NODE, App
from mob.cli.chaos.ledger import DIRECTORY, NATS
from mob.cli.chaos.machines import FIRST
from mob.errors import MobError
from mob.plan import GATEWAY

ECHO, LOAD = "chaos-echo", "chaos-load"
PLAN = "plan.json"


def with_chaos(app: App) -> App:
    """Return the app with the calling role and the called role added."""
    app.role(ECHO, "mob.cli.chaos.echo", workers=3)
    return app.role(LOAD, "mob.cli.chaos.load", workers=2)


def joined(app: App) -> App:
    """Return the app as one of several nodes, which meet only at the run's own NATS server.

    The first node has no worker of the called role, so its callers always call another node.
    """
    app.cluster(os.environ[NATS])
    if os.environ[NODE] == FIRST:
        workers = {role.name: role.workers for role in app.plan.roles if role.name != GATEWAY}
        app.place(**{**workers, ECHO: 0})
    return app


def _amend(app: App) -> None:
    directory = Path(os.environ[DIRECTORY])
    unfinished = directory / f"{PLAN}.{os.getpid()}"  # several nodes write the same plan at once
    unfinished.write_bytes(msgspec.json.encode(with_chaos(app).plan))
    unfinished.rename(directory / PLAN)
    if NATS in os.environ:
        joined(app)


def main() -> None:
    """Run the app in this process."""
    apps.before_run.append(_amend)
    try:
        apps.run_script(*sys.argv[1:])
    except MobError as error:
        sys.last_value = error
        raise SystemExit(f"Error: {error}") from error


if __name__ == "__main__":
    main()
