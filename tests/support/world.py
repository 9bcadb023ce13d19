"""A site on which everything that the admin shows has happened at least once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.utils.timezone import now as utc_now

from chroniker.models import (
    Digest,
    Host,
    Incident,
    Job,
    JobDependency,
    JobState,
    Maintenance,
    Notification,
    Run,
)
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState
from tests.factories import (
    make_heartbeat_monitor,
    make_incident,
    make_job,
    make_maintenance,
    make_monitor,
    make_monitor_state,
    make_notification,
    make_output,
    make_run,
    make_running,
    make_user,
)


@dataclass(frozen=True, slots=True)
class World:
    """Rows to start from."""

    job: Job
    failing: Job
    everywhere: Job
    run: Run
    failed: Run
    monitor: Monitor
    heartbeat: Monitor
    incident: Incident
    host: Host
    window: Maintenance
    notification: Notification


def make_world() -> World:
    """Jobs, runs, incidents, hosts, windows, notifications and monitors in many states."""
    now = utc_now()
    host = Host.objects.create(name="web1", last_tick_at=now, first_tick_at=now, tick_seconds=0.1)
    Host.objects.create(name="web2", last_tick_at=now - timedelta(hours=2), paused=True)
    Host.objects.create(name="gone", retired_at=now)
    job = make_job(name="nightly", schedule="@daily", team="shop")
    state = make_running(job, lease_host="web1", parts_done=1, parts_total=4)
    run = state.current_run
    assert run is not None
    make_output(run, ("stdout", "one\ntwo\n"), ("stderr", "three\n"))
    everywhere = make_job(name="everywhere", hostname="*", schedule="@hourly")
    make_running(everywhere, host="web1", consecutive_failures=2)
    failing = make_job(name="import", schedule="*/5 * * * *", runbook_url="https://example.com/x")
    failed = make_run(failing, status="failed", error="ValueError", exit_code=1, ran_on="web1")
    make_output(failed, ("stdout", "line\n" * 50))
    make_run(failing)
    make_run(failing, status="missed", missed_reason="host", started_at=None, missed_slots=3)
    JobState.objects.create(
        job=failing, last_run=failed, last_status="failed", consecutive_failures=2,
        last_ended_at=now, last_started_at=now, next_run_at=now + timedelta(minutes=3),
    )  # fmt: skip
    blocked = make_job(name="report", schedule="@hourly")
    JobDependency.objects.create(upstream=failing, downstream=blocked)
    JobState.objects.create(
        job=blocked, blocked_reason="dependency", blocked_detail="import",
        next_run_at=now - timedelta(minutes=30),
    )  # fmt: skip
    make_job(name="off", enabled=False)
    incident = make_incident(failing, first_run=failed, last_run=failed, occurrences=3)
    window = make_maintenance(now - timedelta(hours=1), 120, reason="upgrade", recurrence="@daily")
    make_maintenance(now, 60, job, reason="one job")
    digest_user = make_user("digest-reader")
    Digest.objects.create(user=digest_user)
    monitor, heartbeat = _make_monitors()
    return World(
        job=job, failing=failing, everywhere=everywhere, run=run, failed=failed,
        incident=incident, host=host, window=window, monitor=monitor, heartbeat=heartbeat,
        notification=_more_incidents(incident, blocked),
    )  # fmt: skip


def _more_incidents(incident: Incident, blocked: Job) -> Notification:
    now = utc_now()
    make_incident(
        blocked, kind="overdue", cause=incident, acknowledged_at=now, note="looking",
        acknowledged_by=make_user("somebody"),
    )  # fmt: skip
    deleted = make_incident(blocked, kind="late", job_name="deleted job", resolved_at=now)
    Incident.objects.filter(pk=deleted.pk).update(job=None)
    Incident.objects.create(
        kind="host", host="web2", severity="critical", summary="does not tick", opened_at=now,
        last_seen_at=now,
    )  # fmt: skip
    make_notification(incident, "sent", sent_at=now)
    return make_notification(incident, "failed", attempts=3, last_error="refused")


def _make_monitors() -> tuple[Monitor, Monitor]:
    hot = make_monitor(name="disk", schedule="*/5 * * * *", team="shop")
    make_monitor_state(hot, Severity.CRITICAL, value=95.5, message="full", unit="%")
    make_running(hot)
    make_incident(hot, kind="critical")
    make_monitor(name="new")
    beat = make_heartbeat_monitor(name="backup")
    state = make_monitor_state(beat)
    MonitorState.objects.filter(pk=state.pk).update(
        last_ping_at=utc_now(), last_ping_kind="success", last_ping_body="PINGED TEXT"
    )
    return hot, beat
