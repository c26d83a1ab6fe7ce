import mob

kv = mob.require("kv")


@mob.on("ready")
async def count() -> None:
    for _ in range(1000):
        total = await kv.incr("steps")
    print(f"Client {mob.me().index} has counted to 1000 and sees a total of {total}.")
