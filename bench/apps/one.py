"""An app of a single worker, to be killed. `python one.py NAME` is its Kingpin."""

import sys

import mob

mob.start(sys.argv[1]).base(__file__).role("back", "./back.py").run()
