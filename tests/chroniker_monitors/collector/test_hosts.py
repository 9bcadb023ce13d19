"""The series of hosts that are retired, come back, or are deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker.engine.retirement import end_host, retire_host
from chroniker.engine.scheduler import Scheduler
from chroniker.models import Host, Incident, JobState
from chroniker_monitors.admin.monitor_display import placement_states
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import MonitorState, Sample
from tests.factories import make_incident, make_job, make_monitor, make_monitor_state
from tests.support.admin import monitor_admin_url
from tests.support.metrics_page import MetricsPage, scrape

pytestmark = pytest.mark.django_db(transaction=True)


def tick_on(name: str, settings: Any) -> None:
    settings.CHRONIKER_HOSTNAME = name
    Scheduler(only=frozenset()).run()


def exported_hosts() -> set[str]:
    """The values of the label ``host`` on the page."""
    return {
        part.split('"')[1]
        for line in scrape().splitlines()
        for part in line.replace("{", ",").split(",")
        if part.startswith('host="')
    }


@pytest.mark.slow
def test_fifty_pods_leave_the_series_and_rows_of_those_that_live(
    settings: Any, own_runtime_dir: None
) -> None:
    """45 end in order, 3 are killed, and 2 live. Jobs fail on each of them."""
    jobs = [make_job(hostname="*", schedule="@daily") for _ in range(3)]
    make_monitor(hostname="*", schedule="@daily")
    for number in range(50):
        tick_on(f"pod-{number}", settings)
        for job in jobs:
            make_incident(job, host=f"pod-{number}")
        if number < 45:
            end_host(f"pod-{number}", utc_now())
    assert len(exported_hosts()) == 5
    killed = [f"pod-{number}" for number in (45, 46, 47)]
    Host.objects.filter(name__in=killed).update(last_tick_at=utc_now() - timedelta(hours=73))
    Host.objects.request_review()  # ten minutes later
    tick_on("pod-49", settings)
    living = {"pod-48", "pod-49"}
    assert exported_hosts() == living
    assert set(Host.objects.active().values_list("name", flat=True)) == living
    assert set(Incident.objects.open().values_list("host", flat=True)) == living
    series = MetricsPage().samples_named("chroniker_job_runs_total")
    assert len(series) == 2 * 4
    Host.objects.retired().update(retired_at=utc_now() - timedelta(days=8))
    Host.objects.request_review()
    tick_on("pod-49", settings)
    assert set(Host.objects.values_list("name", flat=True)) == living
    assert JobState.objects.count() == 2 * 4


def test_host_that_is_back_has_its_counters(settings: Any, own_runtime_dir: None) -> None:
    make_job(name="a", hostname="*")
    tick_on("web3", settings)
    JobState.objects.update(runs_total=7)
    assert MetricsPage()("chroniker_job_runs_total", job_name="a", host="web3") == 7
    retire_host("web3", utc_now())
    assert exported_hosts() == set()
    tick_on("web3", settings)
    assert MetricsPage()("chroniker_job_runs_total", job_name="a", host="web3") == 7


def test_monitor_shows_and_exports_no_retired_host(
    settings: Any, own_runtime_dir: None, root: Any
) -> None:
    monitor = make_monitor(name="disk", hostname="*")
    for host in ("web1", "web3"):
        tick_on(host, settings)
    make_monitor_state(monitor, host="web1")
    make_monitor_state(monitor, Severity.CRITICAL, host="web3")
    retire_host("web3", utc_now())
    page = MetricsPage()
    assert page.samples_named("chroniker_monitor_severity") == {
        frozenset({("job_name", "disk"), ("host", "web1")}): 0
    }
    answer = root.get(monitor_admin_url("changelist"))
    [shown] = answer.context["cl"].result_list
    assert [state.host for state in placement_states(shown)] == ["web1"]
    critical = root.get(monitor_admin_url("changelist"), {"state": "critical"})
    assert not critical.context["cl"].result_list


def test_deleted_host_takes_its_measurements_along() -> None:
    monitor = make_monitor(hostname="*")
    for host in ("web1", "web3"):
        make_monitor_state(monitor, host=host)
        Sample.objects.create(job_id=monitor.pk, host=host, at=utc_now(), value=1, severity=0)
    Host.objects.get(name="web3").delete()
    assert [state.host for state in MonitorState.objects.all()] == ["web1"]
    assert [sample.host for sample in Sample.objects.all()] == ["web1"]
