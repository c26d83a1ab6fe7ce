"""How long tests wait for what is bound to happen: one factor stretches every bound, for a slow or busy machine.

`MOB_TEST_PATIENCE=3 make test` waits three times as long before it reports that something did not happen; nothing takes
longer because of it. What a test measures or lets run out (an expected timeout) is not stretched.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

VARIABLE = "MOB_TEST_PATIENCE"


def read_factor(environ: Mapping[str, str]) -> float:
    """Return the factor that an environment sets, 1 by default. `ValueError` if it is not a positive number."""
    text = environ.get(VARIABLE) or "1"
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise ValueError(f"{VARIABLE}={text!r}: it must be a number above 0, such as 3")
    return factor


FACTOR = read_factor(os.environ)


def patient(seconds: float) -> float:
    """Return an upper bound for a wait, stretched by the factor."""
    return seconds * FACTOR


PATIENCE = patient(30.0)
"""Seconds that anything may take on a loaded machine; a test that needs them all fails, and no test waits for them."""
