"""`python -m mob.cli.chaos.runner main.py ...`: runs an app's main script with the two roles of a chaos run added.

The script is run as `mob run` does it. What it has described is written down for the conductor when it says `.run()`.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import msgspec

from mob.app import NODE, App
from mob.cli.chaos.ledger import DIRECTORY, NATS
from mob.cli.chaos.machines import FIRST
from mob.errors import MobError
from mob.plan import GATEWAY

ECHO, LOAD = "chaos-echo", "chaos-load"
PLAN = "plan.json"


def with_chaos(app: App) -> App:
    """The app with the role that is called and the role that calls."""
    app.role(ECHO, "mob.cli.chaos.echo", workers=3)
    return app.role(LOAD, "mob.cli.chaos.load", workers=2)


def joined(app: App) -> App:
    """The app as one of several nodes, which meet at the run's own NATS server and nowhere else. On the first one
    nobody is called, so that its callers always call another node."""
    app.cluster(os.environ[NATS])
    if os.environ[NODE] == FIRST:
        workers = {role.name: role.workers for role in app.plan.roles if role.name != GATEWAY}
        app.place(**{**workers, ECHO: 0})
    return app


def main() -> None:
    """Becomes the app."""
    script, directory = Path(sys.argv[1]), Path(os.environ[DIRECTORY])
    sys.argv = sys.argv[1:]
    sys.path[0] = str(script.resolve().parent)
    run = App.run

    def run_with_chaos(self: App) -> None:
        unfinished = directory / f"{PLAN}.{os.getpid()}"  # several nodes do this at once, and say the same
        unfinished.write_bytes(msgspec.json.encode(with_chaos(self).plan))
        unfinished.rename(directory / PLAN)
        if NATS in os.environ:
            joined(self)
        run(self)

    App.run = run_with_chaos  # the one place where a script hands its plan over
    try:
        runpy.run_path(str(script), run_name="__main__")
    except MobError as error:
        sys.last_value = error
        raise SystemExit(f"Error: {error}") from error


if __name__ == "__main__":
    main()
