"""Incidents that open and are resolved too often."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from chroniker.alerting.flapping import (
    FlapHistory,
    cancel_older_reviews,
    end_flapping,
    quiet_ends_at,
    read_history,
)
from chroniker.models import Incident, Job, Notification
from tests.factories import NOON, make_incident, make_job, make_notification

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def was_open(
    job: Job, opened_ago: timedelta, resolved_ago: timedelta | None = None, **fields: Any
) -> Incident:
    """An incident that was opened and resolved this long before noon."""
    return make_incident(
        job,
        opened_at=NOON - opened_ago,
        resolved_at=None if resolved_ago is None else NOON - resolved_ago,
        **{"next_review_at": None} | fields,
    )


def history(job: Job, now: datetime = NOON, **options: Any) -> FlapHistory:
    return read_history(Incident.objects.of_placement(job.pk, "", "failing"), now, **options)


def test_openings_and_resolutions_are_flips() -> None:
    job = make_job()
    assert history(job) == FlapHistory(0, False)
    was_open(job, 9 * MINUTE, 8 * MINUTE)
    was_open(job, 7 * MINUTE)
    assert history(job) == FlapHistory(3, False)
    assert history(job, new_flips=1) == FlapHistory(4, False)


def test_flips_of_another_placement_or_kind_do_not_count() -> None:
    job = make_job()
    was_open(job, 9 * MINUTE, 8 * MINUTE, host="web1")
    was_open(job, 9 * MINUTE, 8 * MINUTE, kind="overdue")
    was_open(make_job(), 9 * MINUTE, 8 * MINUTE)
    assert history(job).flips == 0


def test_flips_count_for_a_day() -> None:
    job = make_job()
    was_open(job, DAY + MINUTE, DAY)
    assert history(job).flips == 0
    was_open(job, DAY, DAY - MINUTE)
    assert history(job).flips == 1, "the resolution, but not the opening exactly a day ago"


def test_muted_incidents_do_not_count() -> None:
    job = make_job()
    was_open(job, 9 * MINUTE, 8 * MINUTE, muted=True)
    assert history(job).flips == 0


def test_flips_before_flapping_ended_do_not_count() -> None:
    job = make_job()
    was_open(job, 9 * MINUTE, 8 * MINUTE, flapping=True, flapping_ended_at=NOON - 5 * MINUTE)
    was_open(job, 7 * MINUTE, 5 * MINUTE)
    assert history(job) == FlapHistory(0, False)
    was_open(job, 4 * MINUTE)
    assert history(job) == FlapHistory(1, False)


def test_latest_incident_decides_whether_it_is_flapping() -> None:
    job = make_job()
    was_open(job, 9 * MINUTE, 8 * MINUTE, flapping=True)
    assert history(job).is_flapping
    was_open(job, 7 * MINUTE, 6 * MINUTE)
    assert not history(job).is_flapping


@pytest.mark.parametrize(("flips", "too_many"), [(0, False), (3, False), (4, True)])
def test_more_flips_than_the_setting_are_too_many(
    settings: Any, flips: int, too_many: bool
) -> None:
    settings.CHRONIKER_FLAPPING_FLIPS = 3
    assert FlapHistory(flips, False).has_too_many_flips is too_many


def test_quiet_lasts_as_long_as_the_setting(settings: Any) -> None:
    settings.CHRONIKER_FLAPPING_QUIET_SECONDS = 90
    assert quiet_ends_at(NOON) == NOON + timedelta(seconds=90)


def test_only_the_latest_flapping_incident_keeps_its_review() -> None:
    job = make_job()
    kept = {
        "latest": was_open(job, MINUTE, flapping=True, next_review_at=NOON),
        "other host": was_open(job, MINUTE, host="x", flapping=True, next_review_at=NOON),
        "not flapping": was_open(job, 3 * MINUTE, MINUTE, next_review_at=NOON),
    }
    older = was_open(job, 3 * MINUTE, MINUTE, flapping=True, next_review_at=NOON)
    cancel_older_reviews(kept["latest"])
    reviewed = Incident.objects.filter(next_review_at=NOON).values_list("pk", flat=True)
    assert set(reviewed) == {incident.pk for incident in kept.values()}
    older.refresh_from_db()
    assert older.next_review_at is None


def test_end_of_flapping_is_reported_once_in_its_thread() -> None:
    job = make_job()
    first = was_open(job, 9 * MINUTE, 8 * MINUTE, flapping=True)
    last = was_open(job, 5 * MINUTE, 4 * MINUTE, flapping=True)
    make_notification(first, "flapping", event="flapping", sent_at=NOON, next_attempt_at=None)
    end_flapping(last, NOON)
    ended = Incident.objects.filter(job=job).values_list("flapping_ended_at", flat=True)
    assert set(ended) == {NOON}
    resolved = Notification.objects.get(event="resolved")
    assert resolved.incident == first
    assert resolved.facts["resolved_at"] == (NOON - 4 * MINUTE).isoformat()


def test_end_of_flapping_keeps_the_ends_before_it() -> None:
    job = make_job()
    earlier = NOON - 30 * MINUTE
    before = was_open(job, 50 * MINUTE, 40 * MINUTE, flapping=True, flapping_ended_at=earlier)
    steady = was_open(job, 20 * MINUTE, 19 * MINUTE)
    end_flapping(was_open(job, 9 * MINUTE, 8 * MINUTE, flapping=True), NOON)
    before.refresh_from_db()
    steady.refresh_from_db()
    assert (before.flapping_ended_at, steady.flapping_ended_at) == (earlier, None)
    assert not Notification.objects.exists(), "nobody knows that it flapped"


def test_end_belongs_to_the_latest_report_of_flapping() -> None:
    job = make_job()
    incidents = [was_open(job, 9 * MINUTE, 8 * MINUTE, flapping=True) for _ in range(2)]
    for number, incident in enumerate(incidents):
        make_notification(incident, f"flapping {number}", event="flapping")
    end_flapping(incidents[1], NOON)
    assert Notification.objects.get(event="resolved").incident == incidents[1]
