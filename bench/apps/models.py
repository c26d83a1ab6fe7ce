"""An app of one that calls and one that answers, for pydantic models. `python models.py NAME` is its Kingpin."""

import sys

import mob

mob.start(sys.argv[1]).base(__file__).role("back", "./models_back.py").role("caller", "./models_caller.py").run()
