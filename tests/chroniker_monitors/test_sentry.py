"""The description of a job for Sentry; no database is needed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroniker.models import Job
from chroniker.schedules import parse
from chroniker_monitors.sentry.check_ins import make_slug, monitor_config
from chroniker_monitors.sentry.events import mask_event
from chroniker_monitors.sentry.schedules import sentry_schedule

SLUG = re.compile(r"(?![0-9]+$)[a-z0-9_-]{1,50}")


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
    told = sentry_schedule("H H(1-5) * * *", "Europe/Berlin", name)
    assert told is not None and re.fullmatch(r"\d+ \d+ \* \* \*", told["value"])
    after = datetime(2026, 3, 1, tzinfo=UTC)
    meant = parse("H H(1-5) * * *", zone="Europe/Berlin", name=name)
    assert parse(told["value"], zone="Europe/Berlin").upcoming(after) == meant.upcoming(after)


def test_sentry_monitor_has_the_limits_of_its_job() -> None:
    job = Job(
        name="import",
        schedule="0 3 * * *",
        timezone="Europe/Berlin",
        start_deadline_seconds=600,
        jitter_seconds=90,
        timeout_seconds=3600,
        kill_grace_seconds=30,
        expected_seconds=60,
        failures_before_alert=3,
    )
    assert monitor_config(job) == {
        "schedule": crontab("0 3 * * *"),
        "timezone": "Europe/Berlin",
        "checkin_margin": 12,
        "max_runtime": 61,
        "failure_issue_threshold": 3,
        "recovery_threshold": 1,
    }


@pytest.mark.parametrize(
    ("fields", "margin", "runtime"),
    [
        ({}, 5, 40320),  # without a limit Sentry must not report it as too long
        ({"expected_seconds": 61}, 5, 2),
        ({"start_deadline_seconds": 1}, 1, 40320),
        ({"timeout_seconds": 10**8, "start_deadline_seconds": 10**8}, 40320, 40320),
    ],
)
def test_limits_are_whole_minutes_that_sentry_accepts(
    fields: dict[str, Any], margin: int, runtime: int
) -> None:
    config = monitor_config(Job(name="import", schedule="@daily", timezone="UTC", **fields))
    assert (config["checkin_margin"], config["max_runtime"]) == (margin, runtime)


def test_name_that_is_a_slug_stays_as_it_is() -> None:
    assert make_slug("nightly-import") == "nightly-import"
    assert make_slug("nightly_import") == "nightly_import"


@pytest.mark.parametrize(
    "names",
    [
        ("Nightly import", "nightly import", "nightly-import", "nightly, import"),
        ("x" * 60 + "a", "x" * 60 + "b", "x" * 50, "x" * 51),
        ("月次", "週次", "日次"),
        ("2024", "-2024", "", "-"),
        ("Grüße", "Grusse", "grue", "gruße"),
    ],
)
def test_similar_names_have_distinct_slugs(names: tuple[str, ...]) -> None:
    slugs = [make_slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert all(SLUG.fullmatch(slug) for slug in slugs)
    # A name that looks like the slug of another job gets another slug.
    assert not set(slugs) & {make_slug(slug) for slug in slugs if slug not in names}


@given(st.text(max_size=200), st.text(max_size=60))
def test_any_name_has_a_slug_that_sentry_accepts(name: str, host: str) -> None:
    assert SLUG.fullmatch(make_slug(name, host))


def test_hosts_of_a_job_have_distinct_slugs() -> None:
    assert len({make_slug("clean"), make_slug("clean", "north"), make_slug("clean", "south")}) == 3


def test_every_text_of_an_event_is_masked() -> None:
    def mask(text: str) -> str:
        return text.replace("secret", "********")

    event = {"a secret": ["secret", ("secret", 1)], "n": None, "deep": {"er": {"secret": 1.5}}}
    assert mask_event(event, mask) == {
        "a ********": ["********", ("********", 1)],
        "n": None,
        "deep": {"er": {"********": 1.5}},
    }
