"""Workers that are ready late, as with a large library to import."""

import os
import time

time.sleep(0.5)


def who(seconds):
    time.sleep(seconds)
    return os.getpid()
