"""The app of the tables on load: eight that call, roles of 1, 2, 4 and 8 that answer. `python load.py NAME`."""

import sys

import mob

app = mob.start(sys.argv[1]).base(__file__)
for workers in (1, 2, 4, 8):
    app.role(f"back{workers}", "./load_back.py", workers=workers)
app.role("caller", "./load_caller.py", workers=8)
app.run()
