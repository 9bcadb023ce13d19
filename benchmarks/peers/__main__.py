"""Compare Chroniker with other schedulers, each in an environment of its own."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine

from . import environments, servers, tables
from .contestants import PEERS, Peer
from .measure import IDLE_JOBS, SIZES, Contest, Result


def main() -> int:
    """Measure, and print the tables; the exit code is 1 if a scheduler could not be measured."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    chosen = [peer for peer in PEERS if peer.control in options.names]
    report = tables.Report(machine.read_machine_facts())
    for file in options.merge:
        report.add(json.loads(file.read_text()))
    with servers.running() if chosen else contextlib.nullcontext() as running:
        for peer in chosen:
            try:
                report.results.append(_measure(peer, running, options.sizes))
            except environments.NotInstalled as error:
                report.missing[peer.name] = f"it cannot be installed here: {error}"
            except Exception as error:  # the others are measured all the same
                report.missing[peer.name] = f"{type(error).__name__}: {error}"
                print(f"!!! {peer.name}: {error}", file=sys.stderr, flush=True)
                log = running.folder / f"{peer.control}.log"
                print(log.read_text()[-2000:] if log.exists() else "", file=sys.stderr)
            report.loads.append(os.getloadavg()[0])
            if options.json:
                options.json.write_text(report.as_json())
    text = report.render()
    print(f"\n{text}")
    if options.write:
        tables.replace_section(text)
    return 1 if report.missing else 0


def _measure(peer: Peer, running: servers.Servers, sizes: list[int]) -> Result:
    python = environments.install(peer)
    result = Result(peer.name, environments.version(python, peer.package))
    contest = Contest(peer, python, running)
    for what in _measurements(contest, result, sizes):
        print(f"{time.strftime('%H:%M:%S')} {peer.name}: {what}", flush=True)
    return result


def _measurements(contest: Contest, result: Result, sizes: list[int]) -> Iterator[str]:
    contest.prepare()
    for jobs in sizes:
        if jobs > contest.peer.most_jobs:
            break
        if result.speed and result.speed[-1].last_ended is None:
            break  # it has not done the smaller number
        result.speed.append(speed := contest.speed(jobs))
        yield f"{speed}"
    for with_children in (False, True):
        result.killed.append(killed := contest.killed(with_children=with_children))
        yield f"{killed}"
    result.idle_cpu_hour, result.memory_bytes = contest.idle()
    yield f"{result.idle_cpu_hour:.1f} s of CPU an hour, {result.memory_bytes >> 20} MiB"
    contest.control("clear")
    contest.control("add", number=IDLE_JOBS, due=0, seconds=0)
    if contest.peer.page:
        result.page = contest.control("page")
    if contest.peer.scrape:
        result.scrape = contest.control("scrape")
    yield f"page {result.page}, scrape {result.scrape}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    names = sorted({peer.control for peer in PEERS})
    parser.add_argument("names", nargs="*", metavar="name", help=f"default: {', '.join(names)}")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument(
        "--merge",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="add the figures of such files; without a name, only those",
    )
    parser.add_argument(
        "--write", action="store_true", help=f"write the tables into {tables.PAGE.name}"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    if not options.names and not options.merge:
        options.names = names
    return options


if __name__ == "__main__":
    sys.exit(main())
