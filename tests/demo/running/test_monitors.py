"""What the demo's monitors measured, compared with what can be known from elsewhere."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Sample
from tests.demo.running.names import (
    BACKUP_AGE,
    FRONT_PAGE,
    INITIALLY_UNKNOWN,
    LOW_STOCK,
    TILL,
    WEEK_OF_STOCK,
)

MAX_AGE_SECONDS = 60


def state_of(name: str) -> MonitorState:
    return MonitorState.objects.get(job__name=name)


def test_every_monitor_has_a_state() -> None:
    names = set(Monitor.objects.values_list("name", flat=True))
    assert set(MonitorState.objects.values_list("job__name", flat=True)) == names


def test_state_agrees_with_the_samples() -> None:
    for state in MonitorState.objects.select_related("job"):
        samples = list(Sample.objects.filter(job=state.job).order_by("at", "id"))
        assert len(samples) == state.samples_total, state.job
        last = samples[-1]
        assert last.value is not None, (state.job, state.error)
        assert (last.value, last.at) == (state.value, state.last_sample_at), state.job
        assert not samples[0].error or state.job.name in INITIALLY_UNKNOWN, state.job


def test_query_monitor_measures_what_the_database_says(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "bookshop.sqlite3")) as database:
        low = dict(
            database.execute(
                "SELECT category, count(*) FROM shop_book WHERE stock < 5 GROUP BY category"
            ).fetchall()
        )
    state = state_of(LOW_STOCK)
    assert {each.name: each.value for each in state.series_states if each.name} == low
    assert state.value == max(low.values())


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        (LOW_STOCK, Severity.WARNING),
        (WEEK_OF_STOCK, Severity.CRITICAL),
        (TILL, Severity.OK),
    ],
)
def test_thresholds_give_the_severity(name: str, severity: Severity) -> None:
    assert Severity(state_of(name).severity) == severity


def test_durations_are_plausible() -> None:
    assert 0 < (state_of(FRONT_PAGE).value or 0) < 10
    assert 0 <= (state_of(BACKUP_AGE).value or 0) < MAX_AGE_SECONDS


def test_heartbeat_has_the_last_ping() -> None:
    till = state_of(TILL)
    assert (till.last_ping_kind, till.last_ping_body) == ("success", "sold some books")
