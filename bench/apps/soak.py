import sys

import mob

mob.start(sys.argv[1]).base(__file__).role("back", "./soak_back.py", workers=2).role("front", "./soak_front.py").run()
