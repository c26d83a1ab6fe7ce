"""Runs every code block of the documentation, page by page. A page with a block that is not run fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, PageError, block, blocks, pages
from tests.docs.page import apart
from tests.patience import patient

PATIENCE = patient(110.0)
"""Seconds that a page may take."""
HELLO = sorted((ROOT / "examples" / "hello").glob("*.py"))


@pytest.fixture(scope="module")
def network() -> list[str]:
    return apart()


def run(network: list[str], page: Path, directory: Path) -> tuple[int, str]:
    """Run a page, and return its status and its failures."""
    command = [*network, sys.executable, "-m", "tests.docs.page", str(page), str(directory), "apart" if network else ""]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            output = process.communicate(timeout=PATIENCE)[0]
        except subprocess.TimeoutExpired:
            process.terminate()
            output = f"not done within {PATIENCE:.0f} s\n{process.communicate()[0]}"
        return process.returncode, output


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).with_suffix("").as_posix())
def test_page(page: Path, network: list[str], tmp_path: Path) -> None:
    if all(each.how == "text" for each in blocks(page)):
        return  # it has nothing to run
    status, told = run(network, page, tmp_path)
    assert status == 0, told


@pytest.mark.parametrize("path", HELLO, ids=lambda path: path.name)
def test_the_page_of_hello_shows_its_files(path: Path) -> None:
    shown = {each.title: each.text for each in blocks(path.with_name("README.md"))}
    assert shown[path.name] == path.read_text("utf-8")


GOOD = """
```python title="back.py"
def add(a, b): return a + b
```
```python title="main.py"
import mob
mob.start("good").base(__file__).role("back", "./back.py", workers=2).run()
```
<!-- run: background -->
```console
$ python main.py
```
```console
$ mob call back.add 1 2
3
$ mob ps
good ... Kingpin ...
...
```
<!-- run: client -->
```python
back = app.require("back")
assert await back.add(1, 2) == 3
```
<!-- run: client -->
```python
>>> back.add(2, 2).result()
4
```
<!-- run: in front -->
```python
assert back.add(3, 4).result() == 7
```
<!-- run: plan -->
```python
app.role("other", "./other.py", hang_timeout=3)
```
<!-- run: parse -->
```console
$ MOB_NODE=a mob restart back --timeout 3 > log && make test ARGS="-k x" | head
```
<!-- run: status 1 -->
```console
$ false
```
```python
from back import add
assert add(1, 1) == 2
```
"""


def written(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text)
    return page


def test_blocks_are_run_in_each_way(network: list[str], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert run(network, written(tmp_path, GOOD), tmp_path / "there") == (0, "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```console\n$ echo a\nb\n```\n", "page.md:1: run as shell:\necho a\n\nseen:\na\n\nwanted:\nb"),
        ("```console\n$ exit 3\n```\n", "status 3\n\nwanted:\nstatus 0"),
        ("<!-- run: status 2 -->\n```console\n$ true\n```\n", "status 0\n\nwanted:\nstatus 2"),
        ("```console\n$ echo a\n```\n", "seen:\na\n\nwanted:\n"),
        ("```python\n1 / 0\n```\n", 'page.md", line 2'),
        ("```python\n>>> 1 + 1\n3\n```\n", "Expected:\n    3\nGot:\n    2"),
        ("<!-- run: plan -->\n```python\napp.role('a', './a.py', worker=1)\n```\n", "unknown option 'worker'"),
        ("<!-- run: parse -->\n```console\n$ mob ps --jason\n```\n", "No such option"),
        ("<!-- run: parse -->\n```console\n$ make tset\n```\n", "no target tset"),
        ("<!-- run: client -->\n```python\napp.nodes()\n```\n", "running apps: []"),
        ("<!-- run: in front -->\n```python\nassert 1 == 2\n```\n", "AssertionError"),
        ('```toml title="mob.toml"\nname = "a"\nworker = 1\n```\n', "unknown option 'worker'"),
        ("```json\n{,}\n```\n", "JSONDecodeError"),
    ],
    ids=lambda text: " ".join(text.split())[:40],
)
def test_a_wrong_block_is_reported(network: list[str], tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "there").mkdir()
    status, seen = run(network, written(tmp_path, text), tmp_path / "there")
    assert status == 1
    assert told in seen


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```ruby\nputs\n```\n", r"page.md:1: a block of ruby. Expected: one of python, console, "),
        ("```\nx\n```\n", "a block of no language"),
        ("text:\n\n    indented\n", "page.md:3: an indented block"),
        ("```python\nx\n", "page.md:1: this block has no end"),
        ('```python title="a.py"\nx = 1\n```\n', "nothing runs a.py"),
        ("<!-- run: sideways -->\n```python\n```\n", "Expected before a block of python: client, in, plan, or a test"),
        ("<!-- run: in -->\n```python\n```\n", "lacks a role"),
        ("<!-- run: tests/docs/test_blocks.py::test_not -->\n```python\n```\n", "there is no test tests/docs/test_b"),
    ],
    ids=lambda text: " ".join(text.split())[:40],
)
def test_a_block_that_would_not_run_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(PageError, match=told):
        blocks(written(tmp_path, text))


def test_a_list_may_continue_after_an_empty_line(tmp_path: Path) -> None:
    assert blocks(written(tmp_path, "* one\n\n    two\n")) == []


def test_a_test_takes_its_block_by_its_own_name(tmp_path: Path) -> None:
    this = "tests/docs/test_blocks.py::test_a_test_takes_its_block_by_its_own_name"
    page = written(tmp_path, f"<!-- run: {this} -->\n```python\nfirst\n```\n```python\nsecond\n```\n")
    assert block(str(page), this) == "first\n"
    with pytest.raises(PageError, match=r"page.md has 0 blocks with <!-- run: tests/no.py::test_no -->"):
        block(str(page), "tests/no.py::test_no")
