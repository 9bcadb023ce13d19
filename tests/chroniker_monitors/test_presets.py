"""``add_starter_monitors`` creates the preset monitors once."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.utils.timezone import now as utc_now

from chroniker.models import Job, Run
from chroniker_monitors.checking.recorder import measure_only
from chroniker_monitors.models import Monitor
from chroniker_monitors.presets import iter_presets
from chroniker_monitors.probes import build_probe, probe_kinds
from tests.factories import make_job

pytestmark = pytest.mark.django_db


def add() -> list[str]:
    out = StringIO()
    call_command("add_starter_monitors", stdout=out)
    return out.getvalue().splitlines()


def test_each_applicable_preset_is_created_and_reported(settings: Any) -> None:
    settings.CHRONIKER_SITE_URL = "https://shop.example.com:8443/"
    reported = add()
    assert len(reported) == len(list(iter_presets())) == 6
    kinds = probe_kinds()
    for starter, line in zip(iter_presets(), reported, strict=True):
        made = starter.kind in kinds
        assert line == f"{starter.name}: created" or not made, line
        assert Monitor.objects.filter(name=starter.name).exists() == made
    for monitor in Monitor.objects.all():
        monitor.full_clean()
        build_probe(monitor.probe.kind, monitor.probe.params)
        assert not monitor.probe.thresholds.warning_is_unreachable()


def test_second_call_changes_nothing() -> None:
    add()
    Monitor.objects.filter(name="Disk space").update(enabled=False)
    before = Monitor.objects.count()
    assert "Disk space: not created: a job with this name exists" in add()
    assert Monitor.objects.count() == before == Job.objects.count()
    assert not Monitor.objects.get(name="Disk space").enabled


@pytest.mark.parametrize("url", ["", "http://shop.example.com", "https://", "nonsense"])
def test_without_https_there_is_no_certificate_monitor(settings: Any, url: str) -> None:
    settings.CHRONIKER_SITE_URL = url
    assert not any("Certificate" in line for line in add())


def test_created_presets_measure() -> None:
    add()
    with pytest.raises(SystemExit) as ended:
        call_command("check_monitor", "Disk space", stdout=(out := StringIO()))
    assert ended.value.code in (0, 1, 2)
    assert " | value=" in out.getvalue()


def test_failed_checks_are_not_alerted_twice() -> None:
    add()
    failed = Monitor.objects.get(name="Failed runs")
    for job in (Job.objects.get(name="Memory"), make_job()):
        now = utc_now()
        Run.objects.create(job=job, scheduled_for=now, status="failed", ended_at=now)
    assert measure_only(failed, failed.probe, now=utc_now()).value == 1
