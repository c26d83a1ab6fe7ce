"""The app of mob's rows: one that calls, one that answers, eight that listen. `python pair.py NAME` is its Kingpin."""

import sys

import mob

(
    mob.start(sys.argv[1])
    .base(__file__)
    .role("back", "./back.py")
    .role("caller", "./caller.py")
    .role("sub", "./sub.py", workers=8)
    .run()
)
