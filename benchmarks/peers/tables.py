"""The result as tables in Markdown, and the section of the documentation that has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .measure import KILL_JOBS, SIZES, Killed, Result, Speed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "performance.md"
BEGIN = "<!-- written by make bench-peers -->"
END = "<!-- end of what make bench-peers has written -->"


@dataclass(slots=True)
class Report:
    """What one or more runs have found."""

    machine: dict[str, Any]
    results: list[Result] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Why a scheduler was not measured, by its name."""
    loads: list[float] = field(default_factory=list)
    """Of the machine, after each scheduler."""

    def add(self, found: dict[str, Any]) -> None:
        """Add what :meth:`as_json` has written."""
        self.machine = found["machine"]
        self.missing |= found["missing"]
        self.loads += found["loads"]
        for entry in found["results"]:
            speed = [Speed(**one) for one in entry.pop("speed")]
            killed = [Killed(**one) for one in entry.pop("killed")]
            self.results.append(Result(**entry, speed=speed, killed=killed))

    def as_json(self) -> str:
        """Return everything."""
        return json.dumps(asdict(self), indent=1)

    def render(self) -> str:
        """Return all tables."""
        facts = self.machine
        loads = f"{min(self.loads):.0f} to {max(self.loads):.0f}" if self.loads else "unknown"
        head = (
            f"{str(facts['date'])[:10]}, commit {facts['commit']}, {facts['cores']} cores, Linux "
            f"{facts['kernel']}, Python {facts['python']}, PostgreSQL with its default "
            f"configuration. The load of the machine, with the schedulers' own, was {loads}."
        )
        parts = [head, _speed(self.results), _rest(self.results), _pages(self.results)]
        parts += [_killed(self.results, with_children=kind) for kind in (False, True)]
        parts += [f"Not measured: {name}, because {why}." for name, why in self.missing.items()]
        return "\n\n".join(parts)


def replace_section(text: str) -> None:
    """Write the tables into the documentation. Raises ValueError if their place is missing."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _speed(results: Sequence[Result]) -> str:
    head = ["due to done", *(f"{n:,} job{'s' if n > 1 else ''}" for n in SIZES)]

    def rows() -> Iterator[Sequence[str]]:
        for result in results:
            cells = {speed.jobs: _speed_cell(speed) for speed in result.speed}
            yield [
                f"{result.name} {result.version}",
                *(cells.get(n, "not tried") for n in SIZES),
            ]

    return _table(head, rows())


def _speed_cell(speed: Speed) -> str:

    if speed.last_ended is not None:
        return f"{speed.last_ended:.2f} s"
    return f"{speed.done} of {speed.jobs} done"


def _rest(results: Sequence[Result]) -> str:
    head = ["", "CPU of an hour without due jobs", "memory at rest"]
    rows = (
        [
            result.name,
            f"{result.idle_cpu_hour:.1f} s",
            f"{result.memory_bytes / 2**20:.0f} MiB" if result.memory_bytes else "none",
        ]
        for result in results
    )
    return _table(head, rows)


def _pages(results: Sequence[Result]) -> str:
    head = ["", "admin list of 1,000 jobs", "scrape of 1,000 jobs"]

    def rows() -> Iterator[Sequence[str]]:
        for result in results:
            page, scrape = result.page, result.scrape
            if page:
                yield [
                    result.name.partition(",")[0],
                    f"{page['ms']:.0f} ms, {page['rows']} rows, {page['queries']} queries",
                    f"{scrape['ms']:.0f} ms, {scrape['series']:,} series"
                    if scrape
                    else "no metrics of its own",
                ]

    return _table(head, rows())


def _killed(results: Sequence[Result], *, with_children: bool) -> str:
    what = "all its processes" if with_children else "the scheduler, not its children"
    head = [f"kill -9 of {what}", f"not finished, of {KILL_JOBS}", "reported as failed or lost",
            "still taken for running", "done twice", "two runs at once"]  # fmt: skip

    def rows() -> Iterator[Sequence[str]]:
        for result in results:
            for found in result.killed:
                if found.with_children == with_children:
                    yield [
                        result.name,
                        str(found.unfinished),
                        _or_no_record(found.reported),
                        _or_no_record(found.stuck),
                        str(found.doubled),
                        str(found.overlapped),
                    ]

    return _table(head, rows())


def _or_no_record(number: int | None) -> str:
    return "no record" if number is None else str(number)
