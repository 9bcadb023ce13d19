"""Incidents of monitors: opened, updated and resolved by samples."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils.timezone import now as utc_now

from chroniker.models import Incident, Job
from chroniker_monitors.checking.incidents import (
    summarize_change,
    unreported_change,
    update_incident,
)
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.checking.recorder import measure_and_record as record_check
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Probe
from chroniker_monitors.thresholds import SeverityChange
from tests.factories import (
    NOON,
    make_gauge_monitor,
    make_heartbeat_monitor,
    make_incident,
    make_job,
    make_monitor,
    make_run,
    set_gauge,
)
from tests.support.types import RunTick

OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN


@pytest.mark.parametrize(
    ("after", "taken", "words"),
    [
        (
            CRITICAL,
            Measurement(CRITICAL, 95.0, "on battery", "V"),
            "95 V (> 90): on battery",
        ),
        (WARNING, Measurement(WARNING, 85.5), "85.5 (> 80)"),
        (UNKNOWN, Measurement(UNKNOWN, error="refused"), "unknown: refused"),
        (OK, Measurement(OK, 50.0, "calm", "V"), "ok, 50 V: calm"),
    ],
)
def test_summary_starts_with_the_short_facts(
    after: Severity, taken: Measurement, words: str
) -> None:
    probe = Probe(kind="test_gauge", operator=">", warning=80, critical=90)
    assert summarize_change(probe, SeverityChange(CRITICAL, after), taken) == words


def test_summary_omits_a_value_that_is_not_what_is_wrong() -> None:
    """A heartbeat after ``/fail`` has an age within its limit."""
    probe = Probe(kind="heartbeat", operator=">", critical=90_000)
    failed = Measurement(CRITICAL, 0.060259, "the job reported a failure: disk full", "s")
    summary = summarize_change(probe, SeverityChange(OK, CRITICAL), failed)
    assert summary == "critical: the job reported a failure: disk full"


def test_summary_includes_stderr_of_the_command() -> None:
    probe = Probe(kind="command", operator=">", critical=0)
    stderr = "three orders have no address:\n  1041\n  1042\n  1050"
    said = summarize_change(probe, SeverityChange(OK, CRITICAL), Measurement(CRITICAL, 1.0, stderr))
    assert stderr in said
    assert (
        len(
            summarize_change(
                probe, SeverityChange(OK, CRITICAL), Measurement(CRITICAL, 1.0, "x" * 10_000)
            )
        )
        == 2000
    )


def check(monitor: Monitor) -> None:
    with pytest.raises(SystemExit):
        call_command("check_monitor", monitor.name, stdout=StringIO())


def incidents_of(monitor: Monitor) -> list[Any]:
    return list(Incident.objects.filter(job=monitor.pk).order_by("pk"))


@pytest.mark.django_db
def test_three_bad_samples_open_one_incident_and_a_good_one_resolves_it(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, consecutive=3)
    opened = []
    for reported in "FFFFS":
        set_gauge(tmp_path, 95 if reported == "F" else 50)
        check(monitor)
        opened.append(len([i for i in incidents_of(monitor) if i.resolved_at is None]))
    assert opened == [0, 0, 1, 1, 0]
    (incident,) = incidents_of(monitor)
    assert (incident.kind, incident.severity) == ("condition", "critical")
    assert "95 V" in incident.summary


@pytest.mark.django_db
def test_two_bad_samples_of_three_open_no_incident(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, consecutive=3)
    for reported in "FFSFFS":
        set_gauge(tmp_path, 95 if reported == "F" else 50)
        check(monitor)
    assert incidents_of(monitor) == []


@pytest.mark.django_db
def test_incident_follows_its_severity(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path)
    seen = []
    for reported in ("85", "95", "raise cut", "95", "50"):
        set_gauge(tmp_path, reported)
        check(monitor)
        (incident,) = incidents_of(monitor)
        seen.append((incident.severity, incident.resolved_at is not None))
    assert seen == [
        ("warning", False), ("critical", False), ("warning", False), ("critical", False),
        ("critical", True),
    ]  # fmt: skip


@pytest.mark.django_db
def test_failing_ping_opens_an_incident_and_a_good_one_resolves_it(client: Any) -> None:
    monitor = make_heartbeat_monitor()
    address = f"/ping/{monitor.probe.ping_uuid}/"
    client.post(f"{address}3", b"disk full", "text/plain")
    (incident,) = incidents_of(monitor)
    assert incident.summary == "critical: the job ended with exit code 3: disk full"
    record_check(monitor, monitor.probe, "", now=utc_now())  # the next scheduled check
    assert MonitorState.objects.get().message == "the job ended with exit code 3: disk full"
    client.get(f"{address}fail")
    client.get(address)
    (incident,) = incidents_of(monitor)
    assert incident.resolved_at is not None


@pytest.mark.django_db(transaction=True)
def test_failing_probe_opens_one_incident_and_not_two(tmp_path: Path, run_tick: RunTick) -> None:
    monitor = make_gauge_monitor(tmp_path, "raise the wire is cut")
    run_tick(only=frozenset({monitor.pk}), force=True)
    (incident,) = incidents_of(monitor)
    assert incident.kind == "condition"
    assert "the wire is cut" in incident.summary


@pytest.mark.django_db
def test_disabled_monitor_is_not_notified(tmp_path: Path, client: Any) -> None:
    gauge, heartbeat = (
        make_gauge_monitor(tmp_path, 95, enabled=False),
        make_heartbeat_monitor(enabled=False),
    )
    check(gauge)
    client.get(f"/ping/{heartbeat.probe.ping_uuid}/fail")
    assert not Incident.objects.exists()
    assert {state.severity for state in MonitorState.objects.all()} == {CRITICAL}


@pytest.mark.django_db(transaction=True)
def test_bad_monitor_is_notified_again_when_reenabled(tmp_path: Path, run_tick: RunTick) -> None:
    monitor = make_gauge_monitor(tmp_path, 95, recovery=2, schedule="@yearly")
    run_tick()
    check(monitor)
    for enabled in (False, True):
        Job.objects.filter(pk=monitor.pk).update(enabled=enabled)
        run_tick()
    assert [incident.is_open for incident in incidents_of(monitor)] == [False]
    set_gauge(tmp_path, 50)
    check(monitor)  # recovering: no incident is opened
    assert len(incidents_of(monitor)) == 1
    set_gauge(tmp_path, 95)
    check(monitor)
    check(monitor)
    assert [incident.is_open for incident in incidents_of(monitor)] == [False, True]
    set_gauge(tmp_path, 50)
    check(monitor)
    check(monitor)
    assert [incident.is_open for incident in incidents_of(monitor)] == [False, False]


@pytest.mark.django_db(transaction=True)
def test_job_that_runs_check_monitor_fails_like_any_job(tmp_path: Path, run_tick: RunTick) -> None:
    monitor = make_gauge_monitor(tmp_path, 95, name="volts")
    job = make_job(command="check_monitor", args="volts")
    run_tick(only=frozenset({job.pk}), force=True)
    kinds = dict(Incident.objects.values_list("job", "kind"))
    assert kinds == {monitor.pk: "condition", job.pk: "failing"}


@pytest.mark.django_db
def test_removed_probe_closes_the_incident(tmp_path: Path) -> None:
    monitor, other = make_gauge_monitor(tmp_path, 95), make_gauge_monitor(tmp_path, 95)
    check(monitor)
    check(other)
    Probe.objects.filter(pk=monitor.pk).delete()
    assert [incident.is_open for incident in incidents_of(monitor)] == [False]
    assert [incident.is_open for incident in incidents_of(other)] == [True]
    record_check(monitor, monitor.probe, "", now=utc_now())  # which started before
    assert [incident.is_open for incident in incidents_of(monitor)] == [False]
    other.delete()
    assert not Incident.objects.open().exists()


# --- one change ---


@pytest.mark.parametrize(
    ("probe_unit", "unit", "value", "head"),
    [
        ("kV", "V", 95.0, "95 kV (> -1)"),
        ("", "V", 95.0, "95 V (> -1)"),
        ("", "", 95.0, "95 (> -1)"),
        ("", "V", 0.0, "0 V (> -1)"),
        ("", "V", None, "critical"),
    ],
)
def test_summary_has_the_value_with_its_unit(
    probe_unit: str, unit: str, value: float | None, head: str
) -> None:
    probe = Probe(kind="test_gauge", operator=">", critical=-1, unit=probe_unit)
    measurement = Measurement(CRITICAL, value, unit=unit)
    assert summarize_change(probe, SeverityChange(OK, CRITICAL), measurement) == head


def test_summary_has_the_error_before_the_message_and_a_threshold_of_zero() -> None:
    probe = Probe(kind="test_gauge", operator=">", critical=0)
    measurement = Measurement(CRITICAL, message="message", error="error")
    summary = summarize_change(probe, SeverityChange(OK, CRITICAL), measurement)
    assert summary == "critical: error"


def change_to(after: Severity, monitor: Monitor, **options: Any) -> Incident:
    """Report a change at noon."""
    measurement = Measurement(after, 95.0, "hot", "V")
    change = SeverityChange(CRITICAL if after is OK else OK, after)
    update_incident(monitor, monitor.probe, "web1", change, measurement, NOON, **options)
    return Incident.objects.get()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("after", "severity"),
    [(WARNING, "warning"), (CRITICAL, "critical"), (UNKNOWN, "warning")],
)
def test_change_opens_an_incident_of_its_severity(after: Severity, severity: str) -> None:
    monitor = make_monitor()
    incident = change_to(after, monitor)
    assert (incident.kind, incident.severity, incident.host) == ("condition", severity, "web1")
    assert (incident.job_id, incident.opened_at, incident.first_run) == (monitor.pk, NOON, None)
    assert incident.summary.endswith(": hot")


@pytest.mark.django_db
def test_recovery_resolves_the_incident_of_its_placement() -> None:
    monitor = make_monitor()
    change_to(CRITICAL, monitor)
    incident = change_to(OK, monitor)
    assert (incident.resolved_at, incident.resolution) == (NOON, "ok, 95 V: hot")


@pytest.mark.django_db
def test_recovery_of_a_disabled_monitor_resolves_its_incident() -> None:
    monitor = make_monitor()
    change_to(CRITICAL, monitor)
    Job.objects.update(enabled=False)
    assert change_to(OK, monitor).resolved_at == NOON


@pytest.mark.django_db
def test_incident_has_the_run_of_its_monitor_and_of_no_other_job() -> None:
    monitor = make_monitor()
    run, other = make_run(monitor), make_run(make_job())
    incident = change_to(CRITICAL, monitor, run_id=run.pk)
    assert (incident.first_run, incident.last_run) == (run, run)
    assert change_to(OK, monitor, run_id=other.pk).last_run == run


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("current", "measured", "reported"),
    [
        (OK, OK, False),
        (OK, CRITICAL, False),
        (WARNING, WARNING, True),
        (WARNING, CRITICAL, True),
        (CRITICAL, WARNING, False),
        (CRITICAL, UNKNOWN, False),
        (UNKNOWN, CRITICAL, True),
        (CRITICAL, OK, False),
    ],
)
def test_bad_severity_without_an_incident_is_reported_once_it_is_confirmed(
    current: Severity, measured: Severity, reported: bool
) -> None:
    monitor = make_monitor()
    make_incident(monitor, kind="condition", host="web2")
    make_incident(monitor, kind="overdue", host="web1")
    make_incident(monitor, kind="condition", host="web1", resolved_at=NOON)
    change = SeverityChange(OK, current) if reported else None
    assert unreported_change(monitor, "web1", current, measured) == change
    make_incident(monitor, kind="condition", host="web1")
    assert unreported_change(monitor, "web1", current, measured) is None
