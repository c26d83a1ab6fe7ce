"""mob: a client that calls the one worker of bench/apps/tables.py."""

from __future__ import annotations

from typing import Any

from bench.mob_side import APPS, App, new_name
from bench.tables_sides import TablesSide


class Side(TablesSide):
    label = "mob"

    def start(self) -> None:
        super().start()
        self.app = App(APPS / "tables.py", new_name())
        self.app.wait_ready(1)
        self.back = self.app.client.require("back")

    def stop(self) -> None:
        self.app.stop()

    def sum_of(self, table: Any) -> float:
        return self.back.total(table).result()
