import os

import mob

PORT = os.environ.get("PORT", "8020")

(
    mob.start("chat")
    .base(__file__)
    .role("room", "./room.py")  # messages and people: one process, so one consistent state
    .role("front", "./front.py:app", workers=3, serve=f"127.0.0.1:{PORT}", serve_options={"ws_max_size": 20_000})
    .run()
)
