import mob

(
    mob.start("typed")
    .base(__file__)
    .role("back", "./back.py", workers=2)  # annotated: `mob stubs` reads it
    .role("front", "./front.py")
    .run()
)
