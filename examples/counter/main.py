import mob

(
    mob.start("counter")
    .base(__file__)
    .role("kv", "./kv.py", workers=1)  # one process, so one consistent state
    .role("clients", "./clients.py", workers=3)
    .run()
)
