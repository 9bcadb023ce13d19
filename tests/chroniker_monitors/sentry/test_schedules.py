"""The description of a job for Sentry; no database is needed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from chroniker.schedules import parse
from chroniker_monitors.sentry.schedules import sentry_schedule


def crontab(value: str) -> dict[str, Any]:
    return {"type": "crontab", "value": value}


def interval(value: int, unit: str) -> dict[str, Any]:
    return {"type": "interval", "value": value, "unit": unit}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/15 8-18 * * MON-FRI", crontab("*/15 8-18 * * 1-5")),
        ("@daily", crontab("0 0 * * *")),
        ("0 3 1,15 * ?", crontab("0 3 1,15 * *")),
        ("0 3 * * * 0", crontab("0 3 * * *")),
        ("0 3 * * * 30", None),  # 30 seconds after the minute
        ("0 3 * * * 0 2030", None),
        ("0 3 L * *", None),
        ("0 3 * * 5#2", None),
        ("0 3 15W * *", None),
        ("0 22-4 * * *", None),
        ("@every 90m", interval(90, "minute")),
        ("@every 2h", interval(2, "hour")),
        ("@every 1d12h", interval(36, "hour")),
        ("@every 2w", interval(2, "week")),
        ("@every 45s", None),
        ("RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_schedule_is_sent_if_sentry_supports_it(text: str, expected: dict[str, Any] | None) -> None:
    assert sentry_schedule(text, "UTC", "a job") == expected


@pytest.mark.parametrize("name", ["import", "export", "Grüße"])
def test_hashed_schedule_is_sent_resolved(name: str) -> None:
    reported = sentry_schedule("H H(1-5) * * *", "Europe/Berlin", name)
    assert reported is not None and re.fullmatch(r"\d+ \d+ \* \* \*", reported["value"])
    after = datetime(2026, 3, 1, tzinfo=UTC)
    meant = parse("H H(1-5) * * *", zone="Europe/Berlin", name=name)
    assert parse(reported["value"], zone="Europe/Berlin").upcoming(after) == meant.upcoming(after)
