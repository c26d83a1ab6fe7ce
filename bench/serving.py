"""`python -m bench.serving`: roles with `serve=`, beside the servers that do the same. Writes bench/SERVING.md.

It has parts, and `--only asgi,ends` makes some of them; the others keep their tables.

* asgi: mob, `uvicorn --workers 2`, gunicorn with uvicorn's worker class, granian; 1, 8 and 64 connections.
* log: the same with an access log.
* wsgi: Flask's and Django's hello; mob, gunicorn's gthread, granian, each with as many threads.
* ends: requests that fail in reloads under load, and when a worker is killed.
* tls: connections that are kept, and a new one for each request.
* h2: HTTP/2. mob has none of its own: nginx in front of it, beside hypercorn and granian.

The servers of a table run at the same time, and are asked one after the other, in rounds, so that a ratio compares
neighbours in time. uvicorn, gunicorn and mob use the same uvloop and httptools; granian has its own server, in Rust.

Needs wrk, h2load, nginx and openssl: apt-get install wrk nghttp2-client nginx openssl. Limits: client and servers share
the cores, so the figures are low and the ratios count.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.serving_ends import CLIENTS, Losses, losses_of
from bench.serving_load import Ask, Case, Series, Table, by_h2load, by_wrk, missing, rounds_of, share_of_the_busiest
from bench.serving_servers import THREADS, Site, made_certificate, serving
from bench.side import ROOT

REPORT = ROOT / "bench" / "SERVING.md"
ASGI = ["mob", "uvicorn", "gunicorn", "granian"]
FEW = (1, 8, 64)
HEAD = """# What serving HTTP costs

Made by `python -m bench.serving`: two workers each, client and servers on one machine. The median of the rounds. A
ratio is the median of the ratios of single rounds. "core" is the time of a core that a request takes, which depends
least on what else the machine does. A request without an answer of 200 has failed.
"""


@dataclass(frozen=True)
class Extent:
    """How long it takes: rounds, seconds of one round, reloads and deaths."""

    rounds: int
    seconds: float
    ends: int


def asgi(extent: Extent) -> str:
    """An application that does nothing, and one that works for 5 ms."""
    few: dict[Case, tuple[Ask, list[str]]] = {
        f"13 bytes, {_connections(count)}": (by_wrk("/", count, extent.seconds), ASGI) for count in FEW
    }
    few["1 kB of JSON, 64 connections"] = by_wrk("/json", 64, extent.seconds), ASGI
    few["5 ms of work, 8 connections"] = by_wrk("/work", 8, extent.seconds), ASGI
    with serving(ASGI, Site()) as servers:
        table = rounds_of(servers, few, extent.rounds, extent.seconds)
        shares = [
            f"| {name} | " + " | ".join(f"{share_of_the_busiest(server, count):.0%}" for count in FEW[1:]) + " |"
            for name, server in servers.items()
        ]
    spread = ["| server | 8 connections | 64 connections |", "|---|--:|--:|", *shares]
    text = "How many of the connections, opened at once, the busier of the two workers has (5 tries, the median):"
    return "\n".join([markdown(table, "uvicorn"), "", text, "", *spread])


def log(extent: Extent) -> str:
    """An access log, written to a file. The ratio is to the same server without one."""
    table: Table = {}
    cases: dict[Case, tuple[Ask, list[str]]] = {"64 connections": (by_wrk("/", 64, extent.seconds), [])}
    ask = cases["64 connections"][0]
    with serving(ASGI, Site()) as silent, serving(ASGI, Site(logs=True)) as logging:
        both = {**silent, **{f"{name}, log": server for name, server in logging.items()}}
        table = rounds_of(both, {"64 connections": (ask, list(both))}, extent.rounds, extent.seconds)
    rows = ["| server | requests/s with a log | of those without | core |", "|---|--:|--:|--:|"]
    for name in silent:
        with_log, without = table["64 connections", f"{name}, log"], table["64 connections", name]
        rows.append(f"| {name} | {with_log.rate:,.0f} | {with_log.ratio(without):.2f} | {_core(with_log)} |")
    return "\n".join(rows)


def wsgi(extent: Extent) -> str:
    """Hello of two frameworks, in as many threads everywhere."""
    names, parts = ["mob", "gunicorn", "granian"], list[str]()
    for framework in ("flask", "django"):
        cases = {f"{framework}, {_connections(count)}": (by_wrk("/", count, extent.seconds), names) for count in FEW}
        with serving(names, Site(f"served_{framework}", is_wsgi=True)) as servers:
            parts.append(markdown(rounds_of(servers, cases, extent.rounds, extent.seconds), "gunicorn"))
    rows = [parts[0], *(part.split("\n", 2)[2] for part in parts[1:])]
    return f"{THREADS} threads in each worker; gunicorn is its `gthread` worker.\n\n" + "\n".join(rows)


def ends(extent: Extent) -> str:
    """Failed requests per reload, and per worker that was killed."""
    rows = [
        f"{CLIENTS} clients without a pause, which repeat nothing; each number is one reload, or one worker killed.",
        "",
        "| server | connections | failed at each reload | at each kill -9 | answered | how |",
        "|---|---|--:|--:|--:|---|",
    ]
    for keeps in (True, False):
        for name in ASGI:
            losses = losses_of(name, keeps, extent.ends, extent.ends)
            if losses.answered:
                rows.append(f"| {name} | {'kept' if keeps else 'new'} | {_told(losses)} |")
    return "\n".join(rows)


def tls(extent: Extent) -> str:
    """TLS by the servers themselves."""
    kept = by_wrk("/", 64, extent.seconds)
    new = by_wrk("/", 8, extent.seconds, "Connection: close")
    with tempfile.TemporaryDirectory() as place:
        cert, key = made_certificate(Path(place))
        with serving(ASGI, Site(cert=cert, key=key)) as servers:
            cases = {"64 connections, kept": (kept, ASGI), "8 at once, a new one for each request": (new, ASGI)}
            table = rounds_of(servers, cases, extent.rounds, extent.seconds)
    return markdown(table, "uvicorn")


def h2(extent: Extent) -> str:
    """HTTP/2 over TLS, asked by h2load."""
    two, one = "HTTP/2, 8 connections, 8 streams each", "HTTP/1.1, 64 connections"
    new, old = by_h2load("/", 8, 8, extent.seconds), by_h2load("/", 64, 1, extent.seconds, is_1=True)
    names = ["nginx and mob", "hypercorn", "granian", "mob"]
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        cert, key = made_certificate(Path(place))
        with serving(names, Site(cert=cert, key=key)) as servers:
            cases: dict[Case, tuple[Ask, list[str]]] = {two: (new, names[:3]), one: (old, names)}
            table = rounds_of(servers, cases, extent.rounds, extent.seconds)
    said = "mob speaks HTTP/1.1, so HTTP/2 is the proxy's. The times are the mean and the longest, as h2load has them."
    return f"{said}\n\n{markdown(table, 'hypercorn', ('mean', 'longest'))}"


PARTS: dict[str, tuple[str, Callable[[Extent], str]]] = {
    "asgi": ("ASGI", asgi),
    "log": ("With an access log", log),
    "wsgi": ("WSGI", wsgi),
    "ends": ("Reloads under load, and kill -9", ends),
    "tls": ("TLS", tls),
    "h2": ("HTTP/2", h2),
}


def markdown(table: Table, peer: str, times: tuple[str, str] = ("half within", "99 % within")) -> str:
    """Return a table of rates; `peer` is whom the ratios compare with."""
    rows = [
        f"| | server | requests/s | of {peer} | core | {times[0]} | {times[1]} | failed |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for (case, name), series in table.items():
        other = table.get((case, peer))
        ratio = f"{series.ratio(other):.2f}" if other else ""
        half = sorted(load.half for load in series.loads)[len(series.loads) // 2] * 1e3
        most = sorted(load.most for load in series.loads)[len(series.loads) // 2] * 1e3
        rows.append(
            f"| {case} | {name} | {series.rate:,.0f} | {ratio} | {_core(series)} | {half:.2f} ms | {most:.1f} ms "
            f"| {series.failed} |"
        )
    return "\n".join(rows)


def _core(series: Series) -> str:
    return f"{sorted(series.costs)[len(series.costs) // 2] * 1e6:.0f} us"


def _connections(count: int) -> str:
    return f"{count} connection{'s' if count > 1 else ''}"


def _told(losses: Losses) -> str:
    counted = (", ".join(map(str, each)) for each in (losses.reloads, losses.kills))
    kinds = [f"{count} {kind}" for kind, count in losses.kinds.most_common()]
    return " | ".join([*counted, f"{losses.answered:,}", "; ".join([*kinds, *sorted(set(losses.notes))])])


def written(path: Path, made: dict[str, str]) -> str:
    """Return the report with these parts; the others are those that it has."""
    old = path.read_text("utf-8") if path.exists() else ""
    texts: list[str] = []
    for key, (title, _) in PARTS.items():
        kept = re.search(rf"^## {re.escape(title)}\n\n(.*?)\n(?=^## |\Z)", old, re.MULTILINE | re.DOTALL)
        text = made.get(key, kept[1].strip("\n") if kept else "")
        texts += [f"## {title}\n\n{text}\n"] if text else []
    return "\n".join([HEAD, *texts])


def main() -> None:
    """Make the parts that are asked for."""
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__, formatter_class=how)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--ends", type=int, default=3, help="reloads, and as many deaths")
    parser.add_argument("--write", type=Path, default=REPORT)
    given = parser.parse_args()
    wanted = given.only.split(",")
    if unknown := sorted(set(wanted) - set(PARTS)):
        raise SystemExit(f"--only {', '.join(unknown)}: there is no such part. There are: {', '.join(PARTS)}.")
    if packages := missing():
        raise SystemExit(
            f"bench.serving needs what is not installed here. On Debian: apt-get install {' '.join(packages)}"
        )
    for key in wanted:
        text = PARTS[key][1](Extent(given.rounds, given.seconds, given.ends))
        print(f"## {PARTS[key][0]}\n\n{text}\n", flush=True)
        given.write.write_text(written(given.write, {key: text}), "utf-8")


if __name__ == "__main__":
    main()
