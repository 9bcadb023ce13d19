"""Measure what a tick, a scrape and a call cost, compared with a measured minimum."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from . import databases, machine, table
from .figures import SCALE_RUN, Figure

NAMES = (
    "setup", "ticks", "one", "idle", "progress", "flood", "lines", "schedules", "monitors",
    "batches", "metrics", "clean", "pages", "server", "site_tests",
)  # fmt: skip
DATABASES = ("sqlite", "postgres")


def main() -> int:
    """Measure and print the figures; the exit code is 1 if a limit is exceeded."""
    options = _options()
    SCALE_RUN.set(options.scale)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that databases are dropped
    began = time.monotonic()
    print(machine.describe())
    print(table.HEAD, flush=True)
    found: list[Figure] = []
    for figure in measure(options.names or NAMES, options.database):
        found.append(figure)
        print(table.line(figure), flush=True)
    over = [figure for figure in found if not figure.holds]
    failed = [figure for figure in over if options.strict or not figure.informative]
    print(table.notes([_module(name) for name in options.names or NAMES]))
    print(
        f"\n{len(found)} figures in {time.monotonic() - began:.0f} s; {len(over)} over their"
        f" limits, {len(failed)} of them fail; {machine.load()}"
    )
    if options.json:
        figures = [asdict(figure) for figure in found]
        options.json.write_text(
            json.dumps({"machine": machine.read_machine_facts(), "figures": figures})
        )
    return 1 if failed and not options.no_limits else 0


def measure(names: Sequence[str], backends: Sequence[str]) -> Iterator[Figure]:
    """Yield the figures of each group on each database."""
    for number, backend in enumerate(backends):
        with databases.fresh(backend) as database:
            for name in names:
                module = _module(name)
                if number and module.RUN_ONCE:
                    continue
                for figure in module.figures(database):
                    where = "" if module.RUN_ONCE else backend
                    yield replace(figure, group=name, database=where)


def _module(name: str) -> Any:
    return importlib.import_module(f"benchmarks.{name}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"groups to run: {', '.join(NAMES)}; default: all"
    )
    parser.add_argument(
        "--database", nargs="+", choices=databases.BACKENDS, help="default: sqlite postgres"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument(
        "--no-limits", action="store_true", help="print the figures, and do not fail over limits"
    )
    parser.add_argument(
        "--strict", action="store_true", help="also fail over informative limits (*)"
    )
    parser.add_argument(
        "--scale", action="store_true", help="measure with a million jobs and a million runs"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(
            f"there is no group {', '.join(sorted(unknown))}; choose from {', '.join(NAMES)}"
        )
    asked = options.database or DATABASES
    missing = [backend for backend in asked if not databases.is_available(backend)]
    if missing:
        message = f"there is no server for {' or '.join(missing)} on this machine"
        if options.database:
            parser.error(message)
        print(f"!!! {message}; skipped", file=sys.stderr)
    options.database = [backend for backend in asked if backend not in missing]
    return options


if __name__ == "__main__":
    sys.exit(main())
