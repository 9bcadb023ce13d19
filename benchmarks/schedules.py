"""Schedules, compared with croniter."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from .databases import BenchmarkDatabase
from .figures import Figure, PairedValue, compare_with_floor

NOTE = (
    "a week of slots of a cron expression with next(), and their number with count(), against a "
    "loop over croniter's get_next(), whose results differ on nights on which the clocks change."
)
RUN_ONCE = True
ROUNDS = 5
EXPRESSIONS = ("*/5 * * * *", "0 */2 * * MON-FRI")
ZONE = "Europe/Berlin"
BEGIN = datetime(2026, 3, 26, tzinfo=UTC)  # the clocks change on the 29th
WEEK = timedelta(days=7)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure parsing and a week of slots."""
    return [
        compare_with_floor(what, unit, [PairedValue(*pair) for pair in pairs])
        for what, unit, pairs in database.call(measure_rounds, rounds=ROUNDS)
    ]


# --- in a worker ----------------------------------------------------------------------------


def measure_rounds(rounds: int) -> list[tuple[str, str, list[tuple[float, float]]]]:
    """Return description, unit, and pairs of our time and croniter's."""
    from croniter import croniter

    from chroniker.schedules import parse

    found = []
    for text in EXPRESSIONS:
        schedule = parse(text, zone=ZONE)
        slots = schedule.count(BEGIN, BEGIN + WEEK)

        def walk(schedule=schedule, slots=slots):  # type: ignore[no-untyped-def]
            schedule.upcoming(BEGIN, slots)

        def count(schedule=schedule):  # type: ignore[no-untyped-def]
            schedule.count(BEGIN, BEGIN + WEEK)

        def walk_croniter(text=text, slots=slots):  # type: ignore[no-untyped-def]
            cron = croniter(text, BEGIN.astimezone(ZoneInfo(ZONE)))
            for _ in range(slots):
                cron.get_next(datetime)

        found += [
            (f"{text}: a slot by next()", "µs", _pairs(walk, walk_croniter, rounds, slots / 1e6)),
            (f"{text}: a week by count()", "µs", _pairs(count, walk_croniter, rounds, 1e-6)),
        ]

    def read() -> None:
        parse(EXPRESSIONS[1], zone=ZONE)

    def read_croniter() -> None:
        croniter(EXPRESSIONS[1], BEGIN).get_next(datetime)

    found.append(("parse and first slot", "µs", _pairs(read, read_croniter, 5 * rounds, 1e-6)))
    return found


def _pairs(
    ours: Callable[[], None], theirs: Callable[[], None], rounds: int, unit: float
) -> list[tuple[float, float]]:
    return [(_seconds(ours) / unit, _seconds(theirs) / unit) for _ in range(rounds)]


def _seconds(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
