"""The app that sums tables: `python tables.py NAME` is its Kingpin."""

import sys

import mob

mob.start(sys.argv[1]).base(__file__).role("back", "./tables_back.py").run()
