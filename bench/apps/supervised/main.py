"""The app of bench/supervision.py: web workers on one port, and others. `python main.py NAME WEB BACK PRELOAD`."""

import os
import sys

import mob

name, web, back, preload = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
app = mob.start(name).base(__file__).preload(*preload)
if back:
    app.role("back", "./back.py", workers=back)
if "SPARE" in os.environ:
    app.role("model", "./model.py", spare=int(os.environ["SPARE"]))
if web:
    app.role("web", "./web.py", workers=web)
app.run()
