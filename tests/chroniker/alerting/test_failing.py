"""When the incident of a failing job opens: slots with their retries, limits, changes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chroniker.engine.planning import plan_changed_jobs
from chroniker.enums import IncidentEnd
from chroniker.models import Incident, Job, JobState
from tests.factories import make_subscribed_job
from tests.support.mail_server import MailServer
from tests.support.timeline import START, Timeline

pytestmark = pytest.mark.django_db(transaction=True)

HOURLY = {"schedule": "@every 1h", "created_at": START - timedelta(minutes=60)}


class Retried:
    """A job that is due at START and then each hour, with one retry after a minute."""

    def __init__(self, **fields: Any) -> None:
        retries = {"max_retries": 1, "retry_delay_seconds": 60}
        self.job = make_subscribed_job(**{**HOURLY, **retries, **fields})
        self.timeline = Timeline()

    def run_due(self, letter: str, minutes: float = 1) -> None:
        (item,) = self.timeline.start_due()
        self.timeline.end(item, letter)
        self.timeline.send()
        self.timeline.advance(minutes=minutes)

    @property
    def state(self) -> JobState:
        return self.timeline.state(self.job)


def test_retry_that_succeeds_opens_no_incident(mail_server: MailServer) -> None:
    retried = Retried()
    retried.run_due("F")
    assert retried.state.consecutive_failures == 0
    retried.run_due("S", minutes=59)
    assert not Incident.objects.exists() and mail_server.mails == []


def test_slot_fails_when_its_retries_have_failed(mail_server: MailServer) -> None:
    retried = Retried()
    retried.run_due("F")
    assert mail_server.mails == []
    retried.run_due("F", minutes=59)
    assert retried.state.consecutive_failures == 1
    retried.run_due("F")  # the next slot: still open
    assert retried.state.consecutive_failures == 1
    retried.run_due("S")
    assert mail_server.event_names() == ["opened", "resolved"]


def test_job_may_count_each_attempt(mail_server: MailServer) -> None:
    retried = Retried(count_attempts=True)
    retried.run_due("F")
    retried.run_due("S")
    assert mail_server.event_names() == ["opened", "resolved"]


def test_retry_that_the_next_slot_supersedes_has_failed(mail_server: MailServer) -> None:
    """Otherwise a job whose retries never get their turn would fail in silence for ever."""
    retried = Retried(retry_delay_seconds=7200, failures_before_alert=2)
    for _ in range(2):
        retried.run_due("F", minutes=60)
    assert retried.state.consecutive_failures == 1
    (item,) = retried.timeline.start_due()
    assert retried.state.consecutive_failures == 2
    retried.timeline.send()
    assert mail_server.event_names() == ["opened"]
    retried.timeline.end(item, "S")
    retried.timeline.send()
    assert mail_server.event_names() == ["opened", "resolved"]


def test_severity_and_team_are_the_jobs(mail_server: MailServer) -> None:
    job = make_subscribed_job(alert_severity="critical", team="billing", name="invoices")
    Timeline().run(job, "F")
    (mail,) = mail_server.mails
    assert "Critical: invoices failed: ValueError: boom" in str(mail["Subject"])
    assert (mail["X-Chroniker-Severity"], mail["X-Chroniker-Team"]) == ("critical", "billing")
    assert Incident.objects.get().team == "billing"


@pytest.mark.parametrize("how", ["form", "query"])
def test_raised_limit_closes_the_incident(mail_server: MailServer, how: str) -> None:
    job, timeline = make_subscribed_job(), Timeline()
    timeline.run(job, "F")
    if how == "form":
        job.failures_before_alert = 5
        job.save()  # noticed at once
    else:
        Job.objects.filter(pk=job.pk).update(failures_before_alert=5)
        timeline.run(job, "F")  # noticed with the next failure
    timeline.catch_up().send()
    assert mail_server.event_names() == ["opened", "closed"]
    assert "may now fail 4 times in a row" in mail_server.subjects()[-1]
    assert not timeline.state(job).failing_incident


def test_lowered_limit_opens_the_incident(mail_server: MailServer) -> None:
    job, timeline = make_subscribed_job(failures_before_alert=3), Timeline()
    timeline.run(job, "FF")
    job.failures_before_alert = 2
    job.save()
    timeline.catch_up().send()
    assert mail_server.event_names() == ["opened"]
    timeline.run(job, "S")
    assert mail_server.event_names() == ["opened", "resolved"]


def test_lowered_limit_during_a_run_that_succeeds(mail_server: MailServer) -> None:
    job, timeline = make_subscribed_job(failures_before_alert=3), Timeline()
    timeline.run(job, "FF")
    item = timeline.start(job)
    job.failures_before_alert = 2
    job.save()
    timeline.catch_up().end(item, "S")
    timeline.send()
    assert mail_server.event_names() == ["opened", "resolved"]
    assert not Incident.objects.open().exists()


def test_enabled_again_job_counts_anew(mail_server: MailServer) -> None:
    job, timeline = make_subscribed_job(failures_before_alert=2), Timeline()
    timeline.run(job, "FF")
    for enabled in (False, True):
        Job.objects.filter(pk=job.pk).update(enabled=enabled)
        plan_changed_jobs(timeline.advance(minutes=1).now)
    timeline.run(job, "F")
    assert mail_server.event_names() == ["opened", "closed"]
    assert "The job was disabled." in mail_server.subjects()[-1]
    assert "Recovered" not in mail_server.subjects()[-1]
    assert Incident.objects.get().ended_by == IncidentEnd.DISABLED
    timeline.run(job, "F")
    assert mail_server.event_names() == ["opened", "closed", "opened"]


def test_run_that_fails_after_its_job_was_disabled_opens_nothing() -> None:
    job, timeline = make_subscribed_job(), Timeline()
    item = timeline.start(job)
    Job.objects.filter(pk=job.pk).update(enabled=False)
    plan_changed_jobs(timeline.now)
    timeline.end(item, "F")
    assert not Incident.objects.exists() and not timeline.state(job).failing_incident
