"""Random histories of a small site, against a simple model of what is wrong and who knows of it.

``CHRONIKER_TEST_HISTORIES`` is the number of histories; a release is tested with many more than
each change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chroniker.alerting.incidents import RELEASE_SECONDS
from chroniker.alerting.silent_hosts import end_silence
from chroniker.engine.planning import plan_changed_jobs
from chroniker.engine.retirement import resume_host, retire_host
from chroniker.enums import IncidentEnd, IncidentKind, NotificationEvent, RunStatus, Trigger
from chroniker.models import Host, Incident, Job, JobDependency, JobState, Maintenance, Notification
from tests.factories import make_subscribed_job, make_user
from tests.support.mail_server import set_mail_options
from tests.support.timeline import START, Timeline

EXAMPLES = int(os.environ.get("CHRONIKER_TEST_HISTORIES", "6"))

JOBS = ("import", "report", "backup", "retried")
"""``report`` waits for ``import``; ``backup`` is pinned to web2; ``retried`` has two retries."""
ENDS = (NotificationEvent.RESOLVED, NotificationEvent.CLOSED)

names = st.sampled_from(JOBS)
actions = st.one_of(
    st.tuples(st.just("outcome"), names, st.sampled_from("SFFTL")),
    st.tuples(st.just("minutes"), st.sampled_from([(1,), (2, 2), (3, 4), (4,) * 5])),
    st.tuples(st.just("run by hand"), names),
    st.tuples(st.just("limit"), names, st.integers(1, 3)),
    st.tuples(st.just("enable"), names, st.booleans()),
    st.tuples(st.just("rename"), names),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("mute"), names, st.sampled_from([3, 15])),
    st.tuples(st.just("web2"), st.sampled_from(["silent", "back", "retired"])),
    st.tuples(st.just("subscribe"), names),
)


@dataclass
class Model:
    """What is true of one job, from the definition of its fields alone."""

    limit: int = 1
    enabled: bool = True
    exists: bool = True
    failures: int = 0
    """Consecutive slots that have failed."""
    retry_pending: bool = False

    @property
    def is_failing(self) -> bool:
        return self.exists and self.enabled and self.failures >= self.limit

    def run(self, trigger: str, attempt: int, retries: int, *, succeeded: bool) -> None:
        if trigger == Trigger.SCHEDULE and self.retry_pending:
            self.failures += 1
        if trigger != Trigger.MANUAL:
            self.retry_pending = False
        if succeeded:
            self.failures = 0
        elif trigger != Trigger.MANUAL and attempt <= retries:
            self.retry_pending = True
        else:
            self.failures += 1

    def plan(self, *, enabled: bool | None = None) -> None:
        """The definition has changed: retries are forgotten, and an enabled job counts anew."""
        self.retry_pending = False
        if enabled is not None:
            self.enabled, self.failures = enabled, 0


@dataclass
class Site:
    """The site and the model of it, side by side."""

    timeline: Timeline
    keys: dict[str, int] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, bool] = field(default_factory=lambda: {"web1": True, "web2": True})
    renamed: int = 0
    late: int = 0

    def define_jobs(self) -> None:
        for name in JOBS:
            job = make_subscribed_job(
                f"of-{name}",
                name=name,
                schedule="@every 10m",
                created_at=START - timedelta(minutes=5),
                hostname="web2" if name == "backup" else "web1",
                max_retries=2 if name == "retried" else 0,
                retry_delay_seconds=240,
                reminder_hours=None,
            )
            self.keys[name], self.models[name], self.outcomes[name] = job.pk, Model(), "S"
        JobDependency.objects.create(
            downstream_id=self.keys["report"], upstream_id=self.keys["import"]
        )
        Host.objects.get_or_create(name="web2")
        self.tick()

    def name_of(self, key: int) -> str:
        return next(name for name, other in self.keys.items() if other == key)

    def apply(self, action: tuple[Any, ...]) -> None:
        kind, *rest = action
        if kind == "minutes":
            for step in rest[0]:
                self.timeline.advance(minutes=step)
                self.tick()
            return
        if kind == "web2":
            self.change_host(rest[0])
        elif self.models[rest[0]].exists:
            # Receivers of Django's signals read the clock.
            with time_machine.travel(self.timeline.now, tick=False):
                getattr(self, kind.replace(" ", "_"))(*rest)
        self.tick()

    def tick(self) -> None:
        now = self.timeline.now
        Host.objects.filter(name__in=[h for h, ticks in self.hosts.items() if ticks]).update(
            last_tick_at=now
        )
        plan_changed_jobs(now)
        for host, ticks in self.hosts.items():
            if ticks:
                self.timeline.host = host
                for item in self.timeline.start_due():
                    self.end(item)
        self.timeline.evaluate_incidents()
        while self.timeline.send():
            pass
        self.check()

    def end(self, item: Any) -> None:
        name = self.name_of(item.job.pk)
        letter = self.outcomes[name]
        run = self.timeline.end(item, letter)
        self.models[name].run(
            run.trigger, run.attempt, item.job.max_retries,
            succeeded=run.status == RunStatus.SUCCEEDED,
        )  # fmt: skip

    # --- what people do ---

    def outcome(self, name: str, letter: str) -> None:
        self.outcomes[name] = letter

    def run_by_hand(self, name: str) -> None:
        JobState.objects.filter(job=self.keys[name]).request_run(self.timeline.now)

    def limit(self, name: str, failures: int) -> None:
        job = Job.objects.get(pk=self.keys[name])
        job.failures_before_alert = self.models[name].limit = failures
        job.save()

    def enable(self, name: str, enabled: bool) -> None:
        if self.models[name].enabled != enabled:
            Job.objects.filter(pk=self.keys[name]).update(enabled=enabled)
            self.models[name].plan(enabled=enabled)

    def rename(self, name: str) -> None:
        self.renamed += 1
        Job.objects.filter(pk=self.keys[name]).update(name=f"{name} {self.renamed}")
        self.models[name].plan()

    def delete(self, name: str) -> None:
        Job.objects.get(pk=self.keys[name]).delete()
        self.models[name].exists = False

    def mute(self, name: str, minutes: int) -> None:
        now = self.timeline.now
        window = Maintenance.objects.create(starts_at=now, ends_at=now + timedelta(minutes=minutes))
        window.jobs.add(self.keys[name])

    def subscribe(self, name: str) -> None:
        self.late += 1
        Job.objects.get(pk=self.keys[name]).subscribers.add(make_user(f"late-{self.late}"))

    def change_host(self, what: str) -> None:
        now = self.timeline.now
        if what == "back" and not self.hosts["web2"]:
            self.hosts["web2"] = True
            if Host.objects.get(name="web2").retired_at is not None:
                resume_host("web2", now)
            end_silence("web2", now)
        elif what != "back":
            self.hosts["web2"] = False
            if what == "retired":
                retire_host("web2", now)

    # --- what must be true ---

    def check(self) -> None:
        self.check_truth()
        for incident in Incident.objects.all():
            self.check_notifications(incident)
        self.check_folding()

    def check_truth(self) -> None:
        """An incident is open exactly while something is wrong, whatever its cause."""
        open_now = {(incident.job_id, incident.kind) for incident in Incident.objects.open().all()}
        for name, model in self.models.items():
            failing = (self.keys[name], IncidentKind.FAILING) in open_now
            assert failing == model.is_failing, name
            if not model.exists:
                continue
            state = JobState.objects.get(job=self.keys[name])
            assert state.consecutive_failures == model.failures
            late = {(self.keys[name], kind) for kind in (IncidentKind.OVERDUE, "blocked")}
            assert state.overdue_incident == bool(late & open_now)
        assert not Incident.objects.open().filter(job=None).exclude(kind=IncidentKind.HOST).exists()

    def check_notifications(self, incident: Incident) -> None:
        """One opening, then one end, for each recipient; and the end is true."""
        rows = Notification.objects.filter(incident=incident, dropped_at=None).order_by("pk")
        by_recipient: dict[str, list[str]] = {}
        for row in rows:
            by_recipient.setdefault(row.recipient, []).append(row.event)
        for recipient, events in by_recipient.items():
            assert events[0] == NotificationEvent.OPENED, recipient
            assert events.count(NotificationEvent.OPENED) == 1, recipient
            ended = [event for event in events if event in ENDS]
            assert len(ended) == (0 if incident.is_open else 1), (recipient, events)
            if ended:
                recovered = incident.ended_by == IncidentEnd.RECOVERED
                assert ended == [ENDS[0] if recovered else ENDS[1]] and events[-1] == ended[0]
        if incident.is_open and not (incident.muted or incident.cause_id or incident.job is None):
            for user in incident.job.subscribers.all():
                assert user.email in by_recipient, f"{user} does not know of {incident}"
        if incident.muted or incident.cause_id:
            assert not by_recipient

    def check_folding(self) -> None:
        """A folded incident has an open cause, or one that ended a moment ago."""
        just_now = self.timeline.now - timedelta(seconds=max(RELEASE_SECONDS, 300))
        folded = Incident.objects.open().exclude(cause=None).select_related("cause", "job")
        for incident in folded:
            cause = incident.cause
            assert cause is not None and cause.cause_id is None
            if cause.resolved_at is not None:
                muted = Job.objects.muted(self.timeline.now).filter(pk=incident.job_id).exists()
                assert muted or cause.resolved_at >= just_now, incident


@pytest.fixture
def mailbox(settings: Any) -> Iterator[None]:
    set_mail_options(settings, backend="locmem")
    settings.CHRONIKER_FLAPPING_FLIPS = 1000
    mail.outbox = []
    yield


@pytest.mark.slow
@pytest.mark.one_database
@pytest.mark.django_db
@given(history=st.lists(actions, min_size=3, max_size=12))
@settings(
    max_examples=EXAMPLES, deadline=None, phases=[Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
def test_every_history_is_told_once_and_truly(mailbox: None, history: list[Any]) -> None:
    with transaction.atomic():
        site = Site(Timeline())
        site.define_jobs()
        for action in history:
            site.apply(action)
        # Whatever is held back is sent in the end, and everyone who was notified was reached.
        site.apply(("minutes", (2,) * 4))
        assert not Notification.objects.undelivered().exists()
        transaction.set_rollback(True)
