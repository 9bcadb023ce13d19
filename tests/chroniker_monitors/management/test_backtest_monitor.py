"""The ``backtest_monitor`` command."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, Sample
from tests.factories import make_heartbeat_monitor, make_monitor, make_monitor_state

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def add_samples(monitor: Monitor, values: list[float | None], minutes: int = 60) -> None:
    Sample.objects.bulk_create(
        [
            Sample(
                job_id=monitor.pk, at=NOON + timedelta(minutes=minutes * number), value=value,
                severity=Severity.UNKNOWN if value is None else monitor.probe.evaluate(value),
            )
            for number, value in enumerate(values)
        ],
        batch_size=5000,
    )  # fmt: skip
    make_monitor_state(monitor, Severity.OK, value=values[-1], last_sample_at=NOON)


def backtest(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("backtest_monitor", *arguments, stdout=out)
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_other_thresholds_are_compared_with_the_stored_ones() -> None:
    monitor = make_monitor(name="volts", timezone="UTC")
    add_samples(monitor, [50, 85, 50, 95, 95, None, 50, 85])
    assert backtest("volts", "--warning", "none", "--consecutive", "2") == [
        "volts: 8 samples, Mon 2026-05-04 12:00:00 UTC to Mon 2026-05-04 19:00:00 UTC",
        "stored tested",
        "thresholds > 80, > 90 none, > 90",
        "bad, good samples 1, 1 2, 1",
        "incidents 3 1",
        "critical 1 1",
        "hours bad 4.0 2.0",
        "Mon 2026-05-04 16:00:00 UTC critical 2 h 00 min",
    ]
    monitor.probe.refresh_from_db()
    assert monitor.probe.warning == 80


def test_without_options_the_stored_thresholds_are_tested() -> None:
    add_samples(make_monitor(name="volts", timezone="UTC"), [50, 95])
    lines = backtest("volts")
    assert "incidents 1 1" in lines
    assert lines[-1] == "Mon 2026-05-04 13:00:00 UTC critical 0.00 s, still open"


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no monitor named 'nothing'"),
        (["empty"], "no samples yet"),
        (["pulse"], "instead of thresholds"),
        (["empty", "--warning", "high"], "neither a number nor none"),
        (["empty", "--critical", "nan"], "neither a number nor none"),
        (["empty", "--recovery", "0"], "from 1 to 100"),
        (["empty", "--operator", "~"], "invalid choice"),
        (["empty", "--operator", "unusual", "--warning", "0.5"], "not a factor of at least 1"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], words: str) -> None:
    make_monitor(name="empty")
    make_heartbeat_monitor(name="pulse")
    with pytest.raises(CommandError, match=words):
        call_command("backtest_monitor", *arguments)


@pytest.mark.slow
def test_month_of_minutes_is_read_and_tested_quickly() -> None:
    """The goal is half a second of CPU time; the limit leaves room for a slow machine."""
    monitor = make_monitor(name="volts")
    add_samples(monitor, [50 + n % 45 for n in range(31 * 1440)], minutes=1)
    began = time.process_time()
    lines = backtest("volts", "--warning", "70", "--consecutive", "3")
    seconds = time.process_time() - began
    assert lines[0].startswith("volts: 44640 samples")
    assert seconds < 1.5, seconds
