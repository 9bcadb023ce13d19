"""Opening, updating and resolving incidents."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from chroniker.alerting.incidents import close, open_or_update, resolve
from chroniker.db.transactions import run_transaction
from chroniker.enums import IncidentEnd, IncidentKind
from chroniker.models import Incident, Job, JobState, Maintenance, Notification
from chroniker.signals import incident_opened, incident_resolved
from tests.factories import (
    make_action_job,
    make_incident,
    make_job,
    make_job_state,
    make_maintenance,
    make_run,
    make_subscribed_job,
)
from tests.support.mail_server import MailServer
from tests.support.processes import wait_until
from tests.support.timeline import START, Timeline
from tests.support.types import RunInFork, RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)


def open_monitor(job: Job, severity: str, now: datetime = START, summary: str = "x") -> Incident:
    return run_transaction(
        lambda: open_or_update(job, "", IncidentKind.CONDITION, severity, summary, now)
    )


def resolve_monitor(job: Job, now: datetime = START + MINUTE) -> Incident | None:
    return run_transaction(lambda: resolve(job, "", IncidentKind.CONDITION, "ok again", now))


def test_second_opening_updates_the_same_incident() -> None:
    job = make_job()
    first = open_monitor(job, "warning", summary="80 %")
    second = open_monitor(job, "warning", START + MINUTE, summary="85 %")
    assert first.pk == second.pk
    assert (second.occurrences, second.summary) == (2, "85 %")
    assert (second.opened_at, second.last_seen_at) == (START, START + MINUTE)


def test_resolving_without_open_incident_does_nothing() -> None:
    job = make_job()
    assert resolve_monitor(job) is None
    open_monitor(job, "warning")
    ended = resolve_monitor(job)
    assert ended is not None and ended.resolution == "ok again"
    assert resolve_monitor(job) is None


def test_incidents_are_separate_per_kind_and_placement() -> None:
    job = make_job()
    for host, kind in [("", "condition"), ("web1", "condition"), ("", "overdue"), ("", "failing")]:
        run_transaction(
            lambda host=host, kind=kind: open_or_update(  # type: ignore[misc]
                job, host, kind, "info", "x", START
            )
        )
    assert Incident.objects.open().count() == 4
    resolve_monitor(job)
    assert Incident.objects.open().count() == 3


def test_worsening_is_notified_and_improvement_is_not(mail_server: MailServer) -> None:
    job, timeline = make_subscribed_job(), Timeline()
    for severity in ("warning", "critical", "warning", "critical"):
        open_monitor(job, severity, timeline.advance(minutes=1).now)
        timeline.send()
    resolve_monitor(job, timeline.advance(minutes=1).now)
    timeline.send()
    assert mail_server.event_names() == ["opened", "worsened", "resolved"]
    assert "Now critical" in mail_server.subjects()[1]


def test_worsening_clears_the_acknowledgement() -> None:
    job = make_subscribed_job()
    incident = open_monitor(job, "warning")
    Incident.objects.update(acknowledged_at=START, next_review_at=None)
    open_monitor(job, "critical", START + MINUTE)
    incident.refresh_from_db()
    assert incident.acknowledged_at is None and incident.next_review_at is not None


def test_worsening_in_a_window_is_notified_after_it(mail_server: MailServer) -> None:
    job, timeline = make_subscribed_job(), Timeline()
    open_monitor(job, "warning", timeline.now)
    timeline.advance(minutes=1)
    window = Maintenance.objects.create(starts_at=timeline.now, ends_at=timeline.now + 2 * MINUTE)
    open_monitor(job, "critical", timeline.now)
    timeline.send()
    assert mail_server.event_names() == ["opened"]
    open_monitor(job, "critical", timeline.advance(minutes=3).now)
    assert window.ends_at < timeline.now
    timeline.send()
    assert mail_server.event_names() == ["opened", "worsened"]


def test_rolled_back_incident_is_not_notified(mail_server: MailServer) -> None:
    job, timeline = make_subscribed_job(), Timeline()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        open_or_update(job, "", "condition", "critical", "x", timeline.now)
        raise ZeroDivisionError
    timeline.send()
    assert mail_server.mails == []
    assert not Incident.objects.exists() and not Notification.objects.exists()


@contextmanager
def received_signals(sent: Any) -> Iterator[list[tuple[Incident, Job]]]:
    got: list[tuple[Incident, Job]] = []

    def hear(incident: Incident, job: Job, **_: Any) -> None:
        got.append((incident, job))

    sent.connect(hear)
    try:
        yield got
    finally:
        sent.disconnect(hear)


def test_signals_are_sent_after_the_commit() -> None:
    job = make_job()
    with (
        received_signals(incident_opened) as opened,
        received_signals(incident_resolved) as resolved,
    ):
        with transaction.atomic():
            incident = open_or_update(job, "", "condition", "info", "x", START)
            open_or_update(job, "", "condition", "info", "x", START)
            assert opened == []
        assert opened == [(incident, job)]
        with transaction.atomic():
            resolve(job, "", "condition", "ok", START + MINUTE)
            assert resolved == []
        assert resolved == [(incident, job)]
        assert len(opened) == 1


def test_concurrent_openings_create_one_incident(
    run_in_fork: RunInFork, mail_server: MailServer
) -> None:
    job = make_subscribed_job()
    now = datetime.now(UTC)

    def open_it() -> None:
        for _ in range(5):
            run_transaction(lambda: open_or_update(job, "", "condition", "critical", "x", now))

    for process in [run_in_fork(open_it) for _ in range(4)]:
        ended = process.wait(60)
        assert ended.exit_code == 0, ended.output
    assert Incident.objects.get().occurrences == 20
    assert Notification.objects.count() == 1


def test_opening_has_its_run_first_and_last() -> None:
    job = make_job()
    first, last = make_run(job), make_run(job)
    for run in (first, last, None):
        incident = run_transaction(
            lambda run=run: open_or_update(  # type: ignore[misc]
                job, "", "failing", "warning", "x", START, run=run
            )
        )
    assert (incident.first_run, incident.last_run) == (first, last)


@pytest.mark.parametrize("with_run", [True, False])
def test_resolution_has_its_run_moment_and_reason(with_run: bool) -> None:
    job = make_job()
    opened_by, resolved_by = make_run(job), make_run(job)
    open_or_update(job, "", "failing", "warning", "x", START, run=opened_by)
    resolve(
        job, "", "failing", "fine\0 again", START + MINUTE, run=resolved_by if with_run else None
    )
    incident = Incident.objects.get()
    assert incident.last_run == (resolved_by if with_run else opened_by)
    assert incident.first_run == opened_by
    assert (incident.resolution, incident.resolved_at) == ("fine again", START + MINUTE)
    assert (incident.last_seen_at, incident.next_review_at) == (START + MINUTE, None)


def test_opening_is_reported_and_its_reminder_scheduled() -> None:
    incident = open_monitor(make_subscribed_job(reminder_hours=2), "warning")
    assert (incident.notified_severity, incident.muted, incident.flapping) == (
        "warning", False, False,
    )  # fmt: skip
    assert incident.next_review_at == START + timedelta(hours=2)
    assert Notification.objects.get().event == "opened"


def test_worsening_reschedules_the_next_reminder() -> None:
    incident = open_monitor(make_subscribed_job(reminder_hours=2), "warning")
    open_monitor(incident.job, "critical", START + MINUTE)
    incident.refresh_from_db()
    assert incident.notified_severity == "critical"
    assert incident.next_review_at == START + MINUTE + timedelta(hours=2)


def test_muted_opening_is_reviewed_and_reports_nothing() -> None:
    job = make_subscribed_job()
    make_maintenance(START, 3, job)
    incident = open_monitor(job, "warning")
    assert incident.muted
    assert incident.next_review_at == START + 3 * MINUTE
    assert incident.notified_severity == ""
    open_monitor(job, "critical", START + MINUTE)
    resolve_monitor(job)
    assert not Notification.objects.exists()


def test_worsening_while_flapping_is_not_reported(settings: Any) -> None:
    settings.CHRONIKER_FLAPPING_FLIPS = 2
    job = make_subscribed_job()
    for seconds in range(2):
        open_monitor(job, "warning", START + timedelta(seconds=seconds))
        resolve_monitor(job, START + timedelta(seconds=seconds))
    Notification.objects.all().delete()
    assert open_monitor(job, "warning").flapping
    open_monitor(job, "critical")
    assert not Notification.objects.exists()


@pytest.mark.parametrize(
    ("flips", "events"),
    [(2, ["opened", "resolved", "flapping"]), (3, ["opened", "resolved", "opened", "flapping"])],
)
def test_flapping_is_reviewed_after_a_quiet_hour(
    settings: Any, flips: int, events: list[str]
) -> None:
    settings.CHRONIKER_FLAPPING_FLIPS = flips
    job, now = make_subscribed_job(reminder_hours=2), START
    for _ in range(3):
        now += MINUTE
        open_monitor(job, "warning", now)
        now += MINUTE
        resolve_monitor(job, now)
    assert list(Notification.objects.order_by("pk").values_list("event", flat=True)) == events
    reviews = Incident.objects.filter(next_review_at__isnull=False)
    assert [incident.next_review_at for incident in reviews] == [now + timedelta(hours=1)]
    assert reviews.get() == Incident.objects.latest("pk")
    open_monitor(job, "warning", now)
    assert reviews.get() == Incident.objects.latest("pk"), "the review moves to the open one"


@pytest.mark.parametrize(
    ("kind", "flags"),
    [("failing", (False, True)), ("overdue", (True, False)), ("condition", (1, 1))],
)
def test_closing_clears_the_flag_of_its_kind_and_placement(kind: str, flags: Any) -> None:
    job = make_job()
    for host in ("", "web1"):
        make_job_state(job, host=host, failing_incident=True, overdue_incident=True)
    incident = make_incident(job, kind=kind)
    close(incident, IncidentEnd.CHANGED, "it no longer applies", START)
    names = ("failing_incident", "overdue_incident")
    states = JobState.objects.filter(job=job)
    assert states.filter(host="").values_list(*names).get() == flags
    assert states.filter(host="web1").values_list(*names).get() == (True, True)
    incident.refresh_from_db()
    assert (incident.resolved_at, incident.resolution) == (START, "it no longer applies")


# --- as ticks make them ---


def test_timeout_is_notified(run_tick: RunTick, mail_server: MailServer) -> None:
    make_action_job("sleep 60", subscribers=["ann"], timeout_seconds=1, kill_grace_seconds=1)
    run_tick()
    assert mail_server.event_names() == ["opened"]
    assert "longer than 1 s" in str(mail_server.mails[0].get_body(("plain",)).get_content())  # type: ignore[union-attr]


def test_lost_run_is_notified_by_the_next_tick(
    start_tick: StartTick,
    run_tick: RunTick,
    mail_server: MailServer,
    tmp_path: Path,
) -> None:
    started = tmp_path / "started"
    make_action_job(f"sleep 60 {started}", subscribers=["ann"])
    tick = start_tick()
    wait_until(started.exists)
    tick.kill(signal.SIGKILL)
    tick.wait(20)
    wait_until(lambda: run_tick() and mail_server.event_names(), timeout=30)
    assert mail_server.event_names() == ["opened"]
    assert "Lost" in str(mail_server.mails[0].get_body(("plain",)).get_content())  # type: ignore[union-attr]
    run_tick()
    assert mail_server.event_names() == ["opened"]
