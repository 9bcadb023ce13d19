"""Rows for tests: users, jobs, runs, incidents, monitors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils.timezone import now
from django.utils.timezone import now as utc_now

from chroniker.engine.completion import FinishedRun, end_run
from chroniker.enums import RunStatus
from chroniker.models import (
    Host,
    Incident,
    Job,
    JobState,
    Maintenance,
    Notification,
    OutputChunk,
    Run,
)
from chroniker.processes.running_child import Outcome
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState

_numbers = itertools.count(1)


def make_monitor(kind: str = "test_gauge", **fields: Any) -> Monitor:
    """A monitor; by default with a warning above 80 and critical above 90."""
    fields.setdefault("name", f"monitor {next(_numbers)}")
    if kind == "test_gauge":
        fields.setdefault("params", {"path": "/nonexistent"})
        fields.setdefault("warning", 80)
        fields.setdefault("critical", 90)
    return Monitor.objects.define(kind=kind, **fields)


def make_gauge_monitor(path: Path, value: object = "50", **fields: Any) -> Monitor:
    """A monitor of the number in ``path / "gauge"``."""
    set_gauge(path, value)
    return make_monitor(params={"path": str(path / "gauge")}, **fields)


def set_gauge(path: Path, value: object) -> None:
    (path / "gauge").write_text(str(value))


def make_heartbeat_monitor(period: float = 3600, grace: float = 600, **fields: Any) -> Monitor:
    params = {"period_seconds": period, "grace_seconds": grace}
    return make_monitor("heartbeat", params=params, **fields)


def monitor_state(monitor: Monitor, host: str = "") -> MonitorState:
    return MonitorState.objects.get(job=monitor.pk, host=host)


def make_job(**fields: Any) -> Job:
    """A saved job with a unique name; by default it runs ``noop``."""
    fields.setdefault("name", f"job {next(_numbers)}")
    if not (fields.get("raw_command") or fields.get("task")):
        fields.setdefault("command", "noop")
    return Job.objects.create(**fields)


def make_due_job(**fields: Any) -> Job:
    """A job with a slot one minute ago that nothing has run yet."""
    fields.setdefault("schedule", "@every 1h")
    fields.setdefault("created_at", now() - timedelta(minutes=61))
    return make_job(**fields)


def make_action_job(
    action: str = "say hello", *, subscribers: Sequence[str] = (), **fields: Any
) -> Job:
    """A due job that performs an action of the ``act`` command; new users subscribe to it."""
    if not fields.get("raw_command"):
        fields.setdefault("command", "act")
        fields.setdefault("args", action)
    job = make_due_job(**fields)
    for name in subscribers:
        job.subscribers.add(make_user(name))
    return job


def make_due(job: Job, ago: timedelta = timedelta(seconds=1)) -> None:
    """Move the next slot of a job to the past."""
    moment = now() - ago
    assert JobState.objects.filter(job=job).update(next_slot_at=moment, next_run_at=moment)


_tokens = itertools.count(1)


def make_host(name: str) -> None:
    """A host, unless there is one of this name. ``""`` is the placement on any host."""
    if name:
        Host.objects.get_or_create(name=name)


def start_run(job: Job, now: datetime, host: str = "") -> JobState:
    """A running run, with the lease of a tick."""
    make_host(host)
    state, _ = JobState.objects.get_or_create(job=job, host=host)
    run = Run.objects.create(job=job, host=host, scheduled_for=now, started_at=now)
    state.lease_token, state.current_run = f"token {next(_tokens)}", run
    state.lease_expires_at = now + timedelta(minutes=1)
    state.last_started_at = now
    state.save(update_fields=["lease_token", "current_run", "lease_expires_at", "last_started_at"])
    return state


def end(
    state: JobState,
    now: datetime,
    status: RunStatus,
    seconds: float | None = 1.5,
    *,
    has_downstream: bool = False,
) -> Run:
    """End a run as a tick does, with its counters."""
    assert state.current_run is not None
    assert state.lease_token is not None
    ended = FinishedRun(
        state=state,
        job=state.job,
        run=state.current_run,
        token=state.lease_token,
        outcome=Outcome(status, seconds=seconds, cpu_seconds=seconds and seconds / 2),
        ended_at=now,
        has_downstream=has_downstream,
    )
    with transaction.atomic():
        assert end_run(ended)
    return ended.run


def make_finished_run(
    job: Job,
    now: datetime,
    status: RunStatus = RunStatus.SUCCEEDED,
    seconds: float | None = 1.5,
    host: str = "",
) -> Run:
    """A run that ends now, with its counters."""
    return end(start_run(job, now - timedelta(seconds=seconds or 0), host), now, status, seconds)


NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def make_job_state(job: Job | None = None, **fields: Any) -> JobState:
    if fields.get("lease_token"):
        fields.setdefault("lease_expires_at", NOON)
    make_host(fields.get("host", ""))
    return JobState.objects.create(job=job or make_job(), **fields)


def make_user(name: str, **fields: Any) -> Any:
    fields.setdefault("email", f"{name}@example.com")
    return get_user_model().objects.create_user(username=name, **fields)


def make_subscribed_job(*subscribers: str, **fields: Any) -> Job:
    """A job with subscribers (by default ``ann``)."""
    job = make_job(**fields)
    for name in subscribers or ("ann",):
        job.subscribers.add(make_user(name))
    return job


def make_run(job: Job, **fields: Any) -> Run:
    """A row of a run, without counters; by default it succeeded ten seconds ago."""
    moment = now()
    fields.setdefault("status", RunStatus.SUCCEEDED)
    fields.setdefault("scheduled_for", moment - timedelta(seconds=next(_numbers)))
    fields.setdefault("started_at", moment - timedelta(seconds=12))
    if fields["status"] != RunStatus.RUNNING:
        fields.setdefault("ended_at", moment - timedelta(seconds=10))
        fields.setdefault("duration_seconds", 2.0)
    return Run.objects.create(job=job, **fields)


def make_running(job: Job, host: str = "", lease_host: str = "web1", **fields: Any) -> JobState:
    """A state that a tick owns, with its running run."""
    make_host(host)
    run = make_run(job, host=host, status=RunStatus.RUNNING, ran_on=lease_host)
    state, _ = JobState.objects.update_or_create(
        job=job,
        host=host,
        defaults={
            "current_run": run,
            "lease_token": str(uuid4()),
            "lease_host": lease_host,
            "lease_expires_at": now() + timedelta(minutes=1),
            **fields,
        },
    )
    return state


def make_output(run: Run, *pieces: tuple[str, str] | tuple[str, str, int]) -> None:
    """Store ``("stdout", "text")``, or ``("stdout", "text", offset)`` to leave a gap."""
    ends: dict[str, int] = {}
    for stream, text, *offset in pieces:
        start = int(offset[0]) if offset else ends.get(stream, 0)
        size = len(text.encode())
        ends[stream] = start + size
        OutputChunk.objects.create(
            run=run, stream=stream, offset=start, size=size, text=text, written_at=now()
        )
    for stream, end in ends.items():
        Run.objects.filter(pk=run.pk).update(**{f"{stream}_bytes": end})


def minutes_from_now(minutes: float) -> datetime:
    """A moment this many minutes from now."""
    return now() + timedelta(minutes=minutes)


def make_incident(job: Job | None = None, **fields: Any) -> Incident:
    fields.setdefault("kind", "failing")
    fields.setdefault("severity", "critical")
    fields.setdefault("summary", "<b>boom</b>")
    now = utc_now()
    moments = {"opened_at": now, "last_seen_at": now, "next_review_at": now}
    moments["remind_at"] = fields.get("next_review_at", now)
    return Incident.objects.create(job=job or make_job(), **moments | fields)


def make_notification(incident: Incident, key: str, **fields: Any) -> Notification:
    now = utc_now()
    defaults = {
        "event": "opened", "channel": "mail", "recipient": "ann@example.com", "created_at": now,
        "next_attempt_at": now + timedelta(hours=1),
    }  # fmt: skip
    return Notification.objects.create(
        job=incident.job, incident=incident, key=key, **defaults | fields
    )


def make_monitor_state(
    monitor: Monitor, severity: Severity = Severity.OK, **fields: Any
) -> MonitorState:
    now = utc_now()
    make_host(fields.get("host", ""))
    return MonitorState.objects.create(
        job_id=monitor.pk,
        **{
            "severity": severity, "measured_severity": severity, "value": 42.0, "since": now,
            "last_sample_at": now, "recent_values": [[41.0, 0], [42.0, int(severity)]],
        } | fields,
    )  # fmt: skip


def make_chunk(run: Run, stream: str, offset: int, text: str) -> OutputChunk:
    return OutputChunk.objects.create(
        run=run, stream=stream, offset=offset, size=len(text), text=text, written_at=utc_now()
    )


def make_maintenance(now: datetime, minutes: float, *jobs: Job, **fields: Any) -> Maintenance:
    made = Maintenance.objects.create(
        starts_at=now, ends_at=now + timedelta(minutes=minutes), **fields
    )
    made.jobs.set(jobs)
    return made
