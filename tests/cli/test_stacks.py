"""Parsing of the stacks that a worker reports."""

from __future__ import annotations

from pathlib import Path

import mob
from mob.cli.stacks import StackFrame, read, without_own

OWN = f"{Path(mob.__file__).parent}/mobster/life.py"
TOLD = f"""serving back.foo for 1.5 s, from front.0 (pid 7)
thread MainThread:
  File "<string>", line 1, in <module>
  File "{OWN}", line 2, in run
    reactor.run()
  File "/app/back.py", line 3, in foo
    x = bar(
        ^^^
  File "/app/back.py", line 9, in bar
thread mob-liveness:
  File "{OWN}", line 2, in run
    reactor.run()
task Task-2, Worker.waits:
  File "/app/back.py", line 12, in waits
    await it
and 5 more tasks"""
FAULT = f"""code in C holds the interpreter; its threads, the most recent call first:
Thread 0x00007fe7f443e6c0 [mob-liveness] (most recent call first):
  File "{OWN}", line 62 in _run
  File "/usr/lib/python3.14/threading.py", line 982 in run

Current thread 0x00007fe7f6057b80 (most recent call first):
  File "/app/back.py", line 3 in inner
  File "/app/back.py", line 2 in outer
  File "<string>", line 1 in <module>
"""


def test_threads_tasks_and_what_is_said_besides() -> None:
    stacks, notes = read(TOLD)
    assert [(stack.kind, stack.name) for stack in stacks] == [
        ("thread", "MainThread"),
        ("thread", "mob-liveness"),
        ("task", "Task-2, Worker.waits"),
    ]
    assert notes == ["serving back.foo for 1.5 s, from front.0 (pid 7)", "and 5 more tasks"]
    assert without_own(stacks[0]).frames == [
        StackFrame("/app/back.py", 3, "foo", "x = bar("),
        StackFrame("/app/back.py", 9, "bar", ""),
    ]
    assert without_own(stacks[1]).frames == []
    assert stacks[2].frames == [StackFrame("/app/back.py", 12, "waits", "await it")]


def test_what_faulthandler_writes_is_turned_round() -> None:
    stacks, notes = read(FAULT)
    assert notes == ["code in C holds the interpreter"]
    assert [stack.name for stack in stacks] == ["mob-liveness", "0x00007fe7f6057b80"]
    assert [frame.function for frame in stacks[1].frames] == ["<module>", "outer", "inner"]
    assert [frame.function for frame in without_own(stacks[1]).frames] == ["outer", "inner"]
    assert without_own(stacks[0]).frames == []


def test_an_error_is_no_stack() -> None:
    assert read("it has exited.") == ([], ["it has exited."])
    assert read("") == ([], [])


def test_source_is_read_where_it_was_not_told(tmp_path: Path) -> None:
    file = tmp_path / "back.py"
    file.write_text("def foo():\n    return 1 + 1\n")
    stacks, _ = read(f'Current thread 0x01 (most recent call first):\n  File "{file}", line 2 in foo\n')
    assert stacks[0].frames == [StackFrame(str(file), 2, "foo", "return 1 + 1")]
