"""The examples `hello` and `counter`, run as their pages say; docs/examples.md names all examples."""

from __future__ import annotations

import re
import urllib.request

from tests.examples.copies import EXAMPLES, started
from tests.patience import patient
from tests.running import Apps, free_port


def test_hello_is_asked_and_ended_by_ctrl_c(apps: Apps) -> None:
    port = free_port()
    app = started(apps, "hello", terminal=True, replace={"1337": str(port)})
    app.wait_ready(6)
    for _ in range(4):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=patient(20)) as answer:
            assert answer.read() == b"Hello World\n"
    app.wait_for(r"Server \d+ served an http request\.", count=4)
    app.wait_for(r"Bar! My pid is \d+", count=4)
    app.processes()
    app.type("\x03")
    assert app.wait() == 0
    app.wait_gone()


def test_a_role_with_one_worker_keeps_one_state(apps: Apps) -> None:
    app = started(apps, "counter", terminal=True)
    found = app.wait_for(r"Client (\d) has counted to 1000 and sees a total of (\d+)\.", count=3)
    totals = {int(match[1]): int(match[2]) for match in found}
    assert set(totals) == {0, 1, 2}
    assert max(totals.values()) == 3000  # the last one sees the steps of all, none lost and none twice
    assert min(totals.values()) >= 1000
    assert app.connect().require("kv").get("steps").result(patient(20)) == 3000
    app.type("\x03")
    assert app.wait() == 0
    app.wait_gone()


def test_every_example_is_on_the_page_of_examples() -> None:
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text("utf-8")
    named = re.findall(r"^\| .*\(\.\./examples/(\w+)/README\.md\) \|", page, re.MULTILINE)
    assert sorted(named) == sorted(path.parent.name for path in EXAMPLES.glob("*/main.py"))
    assert all((EXAMPLES / name / "README.md").is_file() for name in named)
