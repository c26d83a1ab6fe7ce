"""The app of `python -m bench.fanout`: `python fanout.py NAME ROLE=WORKERS ...`, each role being fanout_ROLE.py."""

import sys

import mob

name, *roles = sys.argv[1:]
app = mob.start(name).base(__file__)
for role, _, workers in (each.partition("=") for each in roles):
    app.role(role, f"./fanout_{role}.py", workers=int(workers))
app.run()
