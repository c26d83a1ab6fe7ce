"""What is printed and told: errors as their callers catch them, output as it was meant."""

from __future__ import annotations

from tests.running import Apps


def test_a_group_of_an_export_is_caught_by_except_star(apps: Apps) -> None:
    role = """
        import asyncio
        import mob

        back = mob.require("back")

        async def fail(kind):
            raise kind("bad")

        async def group():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail(ValueError))
                tasks.create_task(fail(KeyError))

        async def ask():
            caught = []
            try:
                await back.group()
            except* ValueError as found:
                caught.append(repr(type(found.exceptions[0]).__bases__[1].__name__))
            except* LookupError as found:
                caught.append(str(found.exceptions[0]))
            return caught
        """
    app = apps.start('.role("back", "./back.py")', back=role)
    assert app.wait_ready().require("back").ask().result() == ["'ValueError'", "KeyError: 'bad'"]
