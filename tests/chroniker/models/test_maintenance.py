"""Which jobs a maintenance window covers, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chroniker.models import Job, Maintenance
from tests.factories import make_job, make_maintenance, make_subscribed_job
from tests.support.mail_server import MailServer
from tests.support.timeline import Timeline

pytestmark = pytest.mark.django_db(transaction=True)


def test_window_without_jobs_covers_all_jobs(mail_server: MailServer) -> None:
    job = make_subscribed_job()
    timeline = Timeline()
    make_maintenance(timeline.now, 60)
    timeline.run(job, "F")
    assert mail_server.mails == []
    assert list(Job.objects.muted(timeline.now)) == [job]


def test_window_whose_only_job_is_deleted_covers_no_job() -> None:
    run_once, other = make_job(), make_job()
    now = datetime.now(UTC)
    make_maintenance(now, 60, run_once, pause=True)
    run_once.delete()
    assert not Job.objects.muted(now).exists()
    assert not Job.objects.paused(now).exists()
    assert Job.objects.get() == other


@pytest.mark.parametrize(
    ("starts", "ends", "muted"), [(-60, -1, False), (-60, 1, True), (1, 60, False), (0, 1, True)]
)
def test_window_includes_its_start_and_excludes_its_end(
    starts: int, ends: int, muted: bool
) -> None:
    job = make_job()
    now = datetime(2026, 3, 1, tzinfo=UTC)
    Maintenance.objects.create(
        starts_at=now + timedelta(minutes=starts), ends_at=now + timedelta(minutes=ends)
    ).jobs.add(job)
    assert Job.objects.muted(now).exists() is muted
    assert not Job.objects.paused(now).exists()


def test_window_must_end_after_it_starts() -> None:
    from django.core.exceptions import ValidationError

    now = datetime.now(UTC)
    with pytest.raises(ValidationError, match="end must be after the start"):
        Maintenance(starts_at=now, ends_at=now).full_clean()
