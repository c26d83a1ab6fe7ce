from mob_stubs import Back

import mob

back = mob.require("back", Back)


@mob.on("ready")
async def dine() -> None:
    menu = await back.menu(below=3)
    order = await back.order(sorted(menu))
    print(f"Ordered {', '.join(order.items)} for {order.total}.")
