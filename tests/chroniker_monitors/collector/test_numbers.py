from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroniker.db.histograms import add_observation
from chroniker.schedules import parse
from chroniker_monitors.collector.numbers import (
    cumulative,
    schedule_kind,
    timestamps,
)

BOUNDS = (0.1, 1.0, 60.0)


@pytest.mark.parametrize(
    ("buckets", "count", "expected"),
    [
        ({}, 0, [0, 0, 0, 0]),
        ({"0.1": 2, "1": 3, "60": 1}, 7, [2, 5, 6, 7]),
        ({"1.0": 3}, 3, [0, 3, 3, 3]),  # the same bound in another spelling
        ({"0.5": 4}, 4, [0, 4, 4, 4]),  # an old bound counts under the next higher
        ({"300": 4}, 4, [0, 0, 0, 4]),  # above all bounds
        ({"1e+06": 1, "soon": 1, "nan": 1}, 3, [0, 0, 0, 3]),
        ({"1": 5}, 3, [0, 5, 5, 5]),  # a lagging count must not make the histogram decrease
    ],
)
def test_buckets_become_cumulative(
    buckets: dict[str, int], count: int, expected: list[int]
) -> None:
    assert cumulative([json.dumps(buckets)], [count], BOUNDS) == [expected]


def test_without_bounds_only_infinity_remains() -> None:
    assert cumulative(['{"1": 2}'], [2], ()) == [[2]]


@given(st.lists(st.floats(0, 1e7), max_size=30))
def test_exported_counts_are_those_of_the_scheduler(durations: list[float]) -> None:
    bounds = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0)
    buckets: dict[str, int] = {}
    for duration in durations:
        buckets = add_observation(buckets, duration)
    [counts] = cumulative([json.dumps(buckets)], [len(durations)], bounds)
    assert counts == [sum(d <= bound for d in durations) for bound in (*bounds, float("inf"))]


def test_bound_with_many_digits_round_trips(settings: Any) -> None:
    settings.CHRONIKER_METRICS_DURATION_BUCKETS = [1, 1234567]
    buckets = add_observation({}, 1_000_000)
    assert cumulative([json.dumps(buckets)], [1], (1.0, 1234567.0)) == [[0, 1, 1]]


def test_rows_are_independent() -> None:
    rows = ['{"1": 2}', None, "{}"]
    assert cumulative(rows, [2, None, 3], BOUNDS) == [[0, 2, 2, 2], [0] * 4, [0, 0, 0, 3]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*/15 8-18 * * MON-FRI",
        "@daily",
        "H H * * *",
        "@every 90m",
        "  @every 45s ",
        "RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO",
        "FREQ=DAILY",
    ],
)
def test_exported_kind_agrees_with_the_parser(text: str) -> None:
    kind = parse(text, zone="UTC", name="x").kind
    assert schedule_kind(text) == {"manual": "none"}.get(kind, kind)


NAIVE_DATETIME = datetime(2026, 5, 4, 12, 0, 0, 250_001)


@pytest.mark.parametrize(
    ("moment", "zone", "expected"),
    [
        (None, UTC, 0),
        (1_777_896_000.250001, UTC, 1_777_896_000.250001),  # from PostgreSQL
        (NAIVE_DATETIME, UTC, 1_777_896_000.250001),
        (NAIVE_DATETIME, ZoneInfo("Europe/Berlin"), 1_777_888_800.250001),
        (NAIVE_DATETIME.replace(tzinfo=UTC), ZoneInfo("Europe/Berlin"), 1_777_896_000.250001),
        (NAIVE_DATETIME, None, NAIVE_DATETIME.timestamp()),  # USE_TZ = False
    ],
)
def test_timestamps_are_unix_seconds(moment: Any, zone: Any, expected: float) -> None:
    assert timestamps([moment, None], zone) == [expected, 0]


@given(st.datetimes(datetime(1971, 1, 1), datetime(2099, 1, 1)))
def test_fast_conversion_gives_the_same_second(moment: datetime) -> None:
    assert timestamps([moment], UTC) == [moment.replace(tzinfo=UTC).timestamp()]
