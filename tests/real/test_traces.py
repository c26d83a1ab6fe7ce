"""Traces: one span for each call, wherever it ran, and the context travels with everything that is sent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mob
from tests.running import Apps, RunningApp, apps_in, wait_until

SETUP = """
import json, os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

class ToFile(SpanExporter):
    def export(self, spans):
        with open("spans.jsonl", "a") as file:
            for span in spans:
                file.write(json.dumps({
                    "name": span.name, "pid": os.getpid(), "kind": span.kind.name,
                    "status": span.status.status_code.name,
                    "trace": span.context.trace_id, "id": span.context.span_id,
                    "parent": span.parent.span_id if span.parent else 0, "attributes": dict(span.attributes),
                    "seconds": (span.end_time - span.start_time) / 1e9,
                }) + "\\n")
        return SpanExportResult.SUCCESS

def setup():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ToFile()))
    trace.set_tracer_provider(provider)
"""
BACK = """
import asyncio, os, time
import mob
from opentelemetry import trace

deep = mob.require("deep")
tracer = trace.get_tracer("app")

def foo(n): return deep.foo(n).result()
async def bar(n):
    await asyncio.sleep(0.05)
    return await deep.bar(n)
def bad(): raise ValueError("bad")
def rows(n):
    for i in range(n):
        with tracer.start_as_current_span("row"):
            yield deep.foo(i).result()
async def arows(n):
    for i in range(n):
        yield await deep.bar(i)
def each(f, n): return [f(i).result() for i in range(n)]
def die(): os.kill(os.getpid(), 9)

@mob.on("message")
async def heard(obj):
    await deep.bar(obj)
"""
DEEP = "def foo(n): return n\nasync def bar(n): return n\n"
FRONT = """
import mob
from opentelemetry import trace

tracer = trace.get_tracer("app")
back = mob.require("back")

def under(name, export, *args):
    with tracer.start_as_current_span(name):
        try:
            return getattr(back, export)(*args).result()
        except Exception as error:
            return type(error).__name__

def iterate(name, export, n):
    with tracer.start_as_current_span(name):
        return list(getattr(back, export)(n))

async def lend(name):
    async def mine(n):
        with tracer.start_as_current_span("mine"):
            return n
    with tracer.start_as_current_span(name):
        return await back.each(mine, 2)

def tell(name):
    with tracer.start_as_current_span(name):
        mob.any("back").send(7)
"""


class Spans:
    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self.client = app.wait_ready()

    def all(self) -> list[dict[str, Any]]:
        path = self.app.directory / "spans.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def below(self, root: str, count: int) -> list[dict[str, Any]]:
        """Return the spans of the trace with a span of that name, when there are `count` others."""

        def found() -> list[dict[str, Any]]:
            spans = self.all()
            traces = {span["trace"] for span in spans if span["name"] == root}
            rest = [span for span in spans if span["trace"] in traces and span["name"] != root]
            return [span for span in spans if span["trace"] in traces] if len(rest) >= count else []

        return wait_until(found, f"{count} spans below {root} are there")


@pytest.fixture(scope="module", params=[1, 3], ids=["on the loop", "in threads"])
def spans(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spans]:
    with apps_in(tmp_path_factory.mktemp("traces")) as apps:
        app = apps.start(
            f'.trace("tracing:setup").role("deep", "./deep.py").role("back", "./back.py", threads={request.param})'
            '.role("front", "./front.py", threads=3)',
            tracing=SETUP,
            deep=DEEP,
            back=BACK,
            front=FRONT,
        )
        yield Spans(app)


def tree(spans: list[dict[str, Any]], root: str) -> list[str]:
    """Return each span below the root as its path from there."""
    by_id = {span["id"]: span for span in spans}

    def path(span: dict[str, Any]) -> str:
        parent = by_id.get(span["parent"])
        return span["name"] if parent is None or span["name"] == root else f"{path(parent)} > {span['name']}"

    return sorted(path(span) for span in spans if root in path(span))


@pytest.mark.parametrize("export", ["foo", "bar"])
def test_a_call_in_the_course_of_a_call_is_its_child(spans: Spans, export: str) -> None:
    root = f"calls {export}"
    assert spans.client.require("front").under(root, export, 1).result() == 1
    found = spans.below(root, 3)
    paths = [path.removeprefix("front.under > ") for path in tree(found, root)]
    assert paths == [root, f"{root} > back.{export}", f"{root} > back.{export} > deep.{export}"]
    assert len({span["pid"] for span in found}) == 3
    back = next(span for span in found if span["name"] == f"back.{export}")
    assert back["kind"] == "SERVER"
    assert (back["attributes"]["rpc.service"], back["attributes"]["rpc.method"]) == ("back", export)
    assert back["attributes"]["mob.caller"].startswith("front.0 (pid ")
    assert 0 <= back["attributes"]["mob.waited"] < 30
    assert export == "foo" or back["seconds"] >= 0.05


def test_what_fails_is_marked(spans: Spans) -> None:
    assert spans.client.require("front").under("fails", "bad").result() == "RemoteError"
    found = spans.below("fails", 2)
    assert next(span for span in found if span["name"] == "back.bad")["status"] == "ERROR"


@pytest.mark.parametrize(("export", "inner"), [("rows", "row"), ("arows", "")])
def test_the_span_of_a_stream_goes_to_its_end(spans: Spans, export: str, inner: str) -> None:
    root = f"streams {export}"
    assert spans.client.require("front").iterate(root, export, 3).result() == [0, 1, 2]
    found = spans.below(root, 8 if inner else 5)
    below = [path for path in tree(found, root) if f"{root} > back.{export} > " in path]
    assert len(below) == (6 if inner else 3)
    assert all(path.endswith((f"> {inner}", "> deep.foo", "> deep.bar")) for path in below)


def test_a_callback_runs_in_the_context_of_who_calls_it(spans: Spans) -> None:
    assert spans.client.require("front").lend("lends").result() == [0, 1]
    paths = tree(spans.below("lends", 6), "lends")
    assert sum(path.endswith("lends > back.each > front.callback") for path in paths) == 2
    assert sum(path.endswith("lends > back.each > front.callback > mine") for path in paths) == 2


def test_a_message_carries_the_context(spans: Spans) -> None:
    spans.client.require("front").tell("tells").result()
    assert any(path.endswith("tells > deep.bar") for path in tree(spans.below("tells", 2), "tells"))


def test_a_call_that_nobody_has_answered_has_its_span_all_the_same(spans: Spans) -> None:
    assert spans.client.require("front").under("loses", "die").result() == "Lost"
    found = spans.below("loses", 2)
    lost = next(span for span in found if span["name"] == "back.die")
    assert (lost["kind"], lost["status"]) == ("CLIENT", "ERROR")
    assert len([span for span in found if span["name"] == "back.die"]) == 1


def test_the_environment_sets_it_up(apps: Apps) -> None:
    env = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    app = apps.start('.trace().role("deep", "./deep.py")', deep=DEEP, env=env, name=f"otel-{os.getpid()}")
    client = app.wait_ready()
    client.require("deep").foo(1).result()
    client.close()
    assert app.stop() == 0
    assert '"name": "deep.foo"' in app.output
    assert f'"service.name": "{app.name}"' in app.output
    assert '"service.instance.id": "deep.0"' in app.output


def test_an_error_in_the_set_up_is_one_of_the_boot(apps: Apps) -> None:
    app = apps.start('.trace("tracing:setup").role("deep", "./deep.py")', tracing="def setup(): 1 / 0\n", deep=DEEP)
    app.wait_for("could not import 'deep'")
    app.wait_for("ZeroDivisionError")


def test_nothing_of_it_is_imported_if_it_is_not_wanted(apps: Apps) -> None:
    deep = """
import sys

def loaded():
    return [name for name in sys.modules if "opentelemetry" in name or "tracing" in name]
"""
    app = apps.start('.role("deep", "./deep.py")', deep=deep)
    assert app.wait_ready().require("deep").loaded().result() == []


def test_an_exporter_that_is_not_installed_is_named(apps: Apps) -> None:
    app = apps.start('.trace().role("deep", "./deep.py")', deep=DEEP, env={"OTEL_TRACES_EXPORTER": "pigeon"})
    app.wait_for("OTEL_TRACES_EXPORTER names 'pigeon', but no such exporter is installed. Installed: console")


@pytest.mark.parametrize("setup", ["tracing", "tracing:", ":setup", "a b:c"])
def test_what_cannot_be_a_function_is_refused(setup: str, tmp_path: Path) -> None:
    with pytest.raises(mob.PlanError, match="module:function"):
        mob.start("app").base(tmp_path).trace(setup)
