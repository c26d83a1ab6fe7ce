import os

import mob

PORT = os.environ.get("PORT", "8010")

(
    mob.start("thumbnails")
    .base(__file__)
    .role("stats", "./stats.py")  # one process, so one consistent state
    .role("back", "./back.py", workers=os.cpu_count() or 1)  # the work, on all cores
    .role("front", "./front.py:app", workers=2, serve=f"127.0.0.1:{PORT}")  # the page, never busy with pictures
    .run()
)
