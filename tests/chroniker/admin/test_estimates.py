"""When a run is expected to end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chroniker.admin.estimates import estimated_end
from chroniker.models import Job, JobState

START = datetime(2026, 5, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def state(**fields: object) -> JobState:
    return JobState(**{"lease_token": "x", "last_started_at": START} | fields)


def test_progress_says_when() -> None:
    half = state(parts_done=5, parts_total=10, progress_at=START + MINUTE)
    assert estimated_end(Job(), half) == START + 2 * MINUTE


def test_without_progress_the_last_duration_says_when() -> None:
    assert estimated_end(Job(), state(last_duration_seconds=60.0)) == START + MINUTE
    assert estimated_end(Job(expected_seconds=60), state()) == START + MINUTE
    assert estimated_end(Job(), state()) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"parts_done": 20, "parts_total": 10, "progress_at": START + MINUTE},
        {"parts_done": 5, "parts_total": 10, "progress_at": START},
        {"parts_done": 1, "parts_total": 1000, "progress_at": START + MINUTE},
        {"parts_done": -5, "parts_total": 10, "progress_at": START + MINUTE},
        {"parts_done": 5, "parts_total": 0, "progress_at": START + MINUTE},
    ],
)
def test_impossible_or_early_progress_says_nothing(fields: dict[str, object]) -> None:
    assert estimated_end(Job(), state(**fields)) is None


def test_what_does_not_run_has_no_end() -> None:
    assert estimated_end(Job(expected_seconds=60), JobState(last_started_at=START)) is None
