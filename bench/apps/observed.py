"""The app of `python -m bench.observing`: `python observed.py NAME MODE`, the mode being plain, metrics or traces."""

import sys

import mob

app = mob.start(sys.argv[1], metrics=sys.argv[2] != "plain").base(__file__)
if sys.argv[2] == "traces":
    app.trace("observed_setup:no_exporter")
app.role("back", "./observed_back.py").role("caller", "./observed_caller.py").run()
