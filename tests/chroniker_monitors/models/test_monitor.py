"""The monitor models: queries, deletion, creation."""

from __future__ import annotations

import pytest

from chroniker.models import Job
from chroniker_monitors.exceptions import ParamsInvalid, UnknownKind
from chroniker_monitors.models import Monitor, MonitorState, Probe, Sample
from tests.factories import make_heartbeat_monitor, make_job, make_monitor

pytestmark = pytest.mark.django_db


def make_monitor_without_probe(name: str) -> Job:
    job = make_job(name=name, command="check_monitor")
    Probe.objects.create(job=job, kind="disk")
    return job


def test_only_jobs_with_a_probe_are_monitors_in_every_query() -> None:
    job, other = make_monitor_without_probe("disk"), make_job(name="nightly")
    for found in (
        Monitor.objects.all(),
        Monitor.objects.filter(enabled=True),
        Monitor.objects.exclude(name="nobody"),
        Monitor.objects.order_by("-name"),
        Monitor.objects.filter(pk__in=[job.pk, other.pk]),
        Monitor._default_manager.all(),
    ):
        assert [monitor.name for monitor in found] == ["disk"]
    assert Monitor.objects.count() == 1
    assert Monitor.objects.get(name="disk").probe.kind == "disk"
    assert not Monitor.objects.filter(name="nightly").exists()
    assert list(Monitor.objects.values_list("name", flat=True)) == ["disk"]
    assert list(Monitor.objects.in_bulk()) == [job.pk]
    with pytest.raises(Monitor.DoesNotExist):
        Monitor.objects.get(pk=other.pk)
    assert Monitor.objects.update(description="changed") == 1
    other.refresh_from_db()
    assert other.description == ""


def test_deleting_a_monitor_deletes_only_its_own_rows() -> None:
    from django.utils.timezone import now

    job, other = make_monitor_without_probe("disk"), make_job(name="nightly")
    MonitorState.objects.create(job=job)
    Sample.objects.create(job=job, at=now(), severity=0)
    Monitor.objects.all().delete()
    assert list(Job.objects.values_list("name", flat=True)) == [other.name]
    assert not Probe.objects.exists()
    assert not MonitorState.objects.exists()
    assert not Sample.objects.exists()


def test_heartbeat_has_url_and_threshold_and_no_hosts() -> None:
    monitor = make_heartbeat_monitor(period=100, grace=50, hostname="*", operator="<", warning=120)
    probe = Probe.objects.get()
    assert (probe.operator, probe.warning, probe.critical) == (">", 120, 150)
    assert probe.ping_uuid is not None
    assert Monitor.objects.get() == monitor
    assert Monitor.objects.get().hostname == ""


def test_invalid_parameters_define_no_monitor() -> None:
    with pytest.raises(UnknownKind):
        Monitor.objects.define(name="a", kind="no_such_kind")
    with pytest.raises(ParamsInvalid):
        Monitor.objects.define(name="a", kind="test_gauge", params={"colour": "red"})
    assert not Job.objects.exists()


def test_monitor_is_a_job_that_runs_check_monitor() -> None:
    monitor = make_monitor(timeout_seconds=45, schedule="@every 1m")
    job = Job.objects.get()
    assert (job.command, job.args) == ("check_monitor", f"--job-id {job.pk}")
    assert not job.failures_open_incidents
    assert job.max_runs_kept == 100
    assert monitor.probe.timeout_seconds == 45
    assert job.timeout_seconds == 65
    assert job.probe.kind == "test_gauge"
    monitor.full_clean()


def test_package_exports_monitor() -> None:
    import chroniker_monitors

    assert chroniker_monitors.Monitor is Monitor
    with pytest.raises(AttributeError):
        chroniker_monitors.Probe  # noqa: B018
    chroniker_monitors.Monitor.report(3, "outside a monitor it does nothing")
