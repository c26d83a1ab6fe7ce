import os

import mob

(
    mob.start("pricing")
    .base(__file__)
    .role("pricer", "./pricer.py", workers=os.cpu_count() or 1)  # one for each core
    .run()
)
