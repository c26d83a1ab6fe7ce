import os
from pathlib import Path

import mob

PORT = os.environ.get("PORT", "8030")
DASHBOARD_PORT = os.environ.get("DASHBOARD_PORT", "4777")
DATA = Path(__file__).with_name("data")
DATA.mkdir(exist_ok=True)

(
    mob.start("shop")
    .base(__file__)
    .queue(DATA / "jobs.db")  # orders wait here, on disk
    .store("cache", max_memory="50M")  # prices, and the number of recent orders of each visitor
    .role("baskets", "./baskets.py")  # one process, so one consistent state
    .role("orders", "./orders.py", workers=2)
    .role("report", "./report.py")
    .role("front", "./front.py:app", workers=2, serve=f"127.0.0.1:{PORT}")
    .dashboard(port=int(DASHBOARD_PORT))  # also serves /livez and /readyz
    .run()
)
