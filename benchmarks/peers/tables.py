"""The result as tables in Markdown, and the section of the documentation that has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .measure import KILL_JOBS, SIZES, Result, Speed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "performance.md"
BEGIN = "<!-- written by make bench-peers -->"
END = "<!-- end of what make bench-peers has written -->"


def render(machine: str, results: Sequence[Result], missing: Mapping[str, str]) -> str:
    """Return all tables."""
    parts = [machine, _speed(results), _rest(results)]
    parts += [_killed(results, with_children=with_children) for with_children in (False, True)]
    parts += [f"Not measured: {name}, because {why}." for name, why in missing.items()]
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
    head = ["", "CPU of an hour without due jobs", "memory at rest", "admin list of 1,000 jobs",
            "scrape"]  # fmt: skip

    def rows() -> Iterator[Sequence[str]]:
        for result in results:
            page, scrape = result.page, result.scrape
            yield [
                result.name,
                f"{result.idle_cpu_hour:.1f} s",
                f"{result.memory_bytes / 2**20:.0f} MiB" if result.memory_bytes else "none",
                f"{page['ms']:.0f} ms, {page['rows']} rows, {page['queries']} queries"
                if page else "none of its own",
                f"{scrape['ms']:.0f} ms, {scrape['series']:,} series" if scrape
                else "none of its own",
            ]  # fmt: skip

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
