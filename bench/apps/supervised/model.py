"""Takes its time to boot, as a role does that loads a model; answers, when it is asked."""

import os
import time

time.sleep(float(os.environ["BOOT"]))


def pid():
    return os.getpid()
