import os

import mob

(
    mob.start("pricing")
    .base(__file__)
    .role("pricer", "./pricer.py", workers=os.cpu_count() or 1)  # as many as can work at once
    .run()
)
