"""Maintenance windows that repeat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from chroniker.alerting.recurring import next_window, repeat_windows
from chroniker.engine.heartbeat import record_heartbeat
from chroniker.models import Job, Maintenance
from tests.factories import make_job

SUNDAY = datetime(2026, 3, 22, 1, 0, tzinfo=UTC)  # 02:00 in Berlin
BERLIN = {"recurrence": "0 2 * * SUN", "timezone": "Europe/Berlin"}


def window(**fields: Any) -> Maintenance:
    times = {"starts_at": SUNDAY, "ends_at": SUNDAY + timedelta(hours=2)}
    return Maintenance(**{**times, **BERLIN, **fields})


def test_next_window_is_at_the_same_local_time_and_as_long() -> None:
    # In the night to 29 March, 02:00 does not exist in Berlin: it is 03:00, 01:00 UTC.
    assert next_window(window(), SUNDAY) == (
        datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 29, 3, tzinfo=UTC)
    )  # fmt: skip
    following = next_window(window(), datetime(2026, 3, 30, tzinfo=UTC))
    assert following is not None and following[0] == datetime(2026, 4, 5, 0, tzinfo=UTC)


def test_windows_that_nobody_saw_are_skipped_except_the_current_one() -> None:
    following = next_window(window(), datetime(2026, 4, 12, 1, tzinfo=UTC))
    assert following is not None and following[0] == datetime(2026, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"recurrence": "every Sunday"}, "recurrence", "Accepted"),
        ({"timezone": "Europe/Berlln"}, "timezone", "Europe/Berlin"),
        ({"recurrence": "0 * * * *"}, "recurrence", "before the one before it has ended"),
    ],
)
def test_unusable_repetition_is_rejected(fields: dict[str, str], field: str, words: str) -> None:
    with pytest.raises(ValidationError) as error:
        window(**fields).clean()
    assert words in error.value.message_dict[field][0]


def test_usable_repetition_is_accepted() -> None:
    window().clean()
    window(recurrence="RRULE:FREQ=MONTHLY;BYDAY=1SU;BYHOUR=2;BYMINUTE=0").clean()
    window(recurrence="").clean()


@pytest.mark.django_db
def test_series_goes_on_with_the_same_jobs_and_keeps_the_past() -> None:
    job, deleted = make_job(), make_job()
    first = window(reason="new disks", pause=True)
    first.save()
    first.jobs.set([job, deleted])
    Job.objects.filter(pk=deleted.pk).delete()
    repeat_windows(SUNDAY - timedelta(minutes=1))
    assert Maintenance.objects.count() == 1
    for _ in range(2):  # a second tick creates nothing
        repeat_windows(SUNDAY)
    assert Maintenance.objects.active(SUNDAY).get() == first
    following = Maintenance.objects.recurring().get()
    assert following.starts_at == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert (following.reason, following.pause, following.recurrence) == (
        "new disks", True, "0 2 * * SUN",
    )  # fmt: skip
    assert list(following.jobs.all()) == [job]
    first.refresh_from_db()
    assert (first.recurrence, first.ends_at) == ("", SUNDAY + timedelta(hours=2))


@pytest.mark.django_db
def test_window_of_deleted_jobs_never_becomes_one_for_all_jobs() -> None:
    job = make_job()
    first = window()
    first.save()
    first.jobs.set([job])
    job.delete()
    repeat_windows(SUNDAY)
    following = Maintenance.objects.recurring().get()
    assert not Maintenance.objects.filter(pk=following.pk).covering(None).exists()


@pytest.mark.django_db
def test_series_that_ends_or_cannot_be_read_ends() -> None:
    window(recurrence="RRULE:FREQ=DAILY;UNTIL=20260301T000000Z", timezone="UTC").save()
    window(recurrence="no longer valid").save()
    repeat_windows(SUNDAY)
    assert Maintenance.objects.count() == 2
    assert not Maintenance.objects.recurring().exists()


@pytest.mark.django_db
def test_heartbeat_notices_that_a_window_is_to_be_repeated() -> None:
    window().save()
    assert not record_heartbeat("web1", SUNDAY - timedelta(minutes=1)).windows_to_repeat
    assert record_heartbeat("web1", SUNDAY).windows_to_repeat
