"""One day of a site, scraped every four minutes, as Prometheus blocks.

The pages are the real ones, of rows that a tick would have written; only the clock runs faster.
They become blocks of Prometheus's own storage, as if two replicas of the site had been scraped
(job ``chroniker``), one that never changed (``single``), and one that was replaced every two
hours (``churning``).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.db.models import F
from django.utils.timezone import now as utc_now

from chroniker.db.histograms import add_observation
from chroniker.enums import RunStatus
from chroniker.models import Counter, Host, Job, JobState, Maintenance, MaintenanceJob
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.checking.recorder import record_measurement
from chroniker_monitors.enums import Severity
from chroniker_monitors.exposition.page import render_chroniker_page
from chroniker_monitors.models import Monitor, Sample
from chroniker_monitors.series import SeriesValue
from tests.factories import NOON, make_finished_run, make_job, start_run
from tests.support.machine import run_promtool
from tests.support.metrics_page import SAMPLE_LINE

STEP = timedelta(minutes=4)
HISTORY_START = NOON - timedelta(hours=26)
JOBS = (
    "hourly", "daily", "broken", "late", "waiting", "long", "everywhere", "disabled",
)  # fmt: skip
MONITORS = {"disk": 85, "orders": 95}
"""What they measure at the end; it rises by one per hour. 80 is a warning, 90 is critical."""
LEARNING = "orders"
"""The monitor with groups, of which the first one rises. It learns its thresholds: 60 is usual."""
GROUPS = ("shop", "app")
MUTED = ("broken", "disk")
"""From an hour and a half before the end on, for an hour and some minutes."""
STEPS_PER_POD = 31
"""Steps for which a replica lives that is replaced by another."""


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


PROBES: dict[str, dict[str, Any]] = {
    "disk": {"kind": "disk", "params": {"path": "/"}, "warning": 80, "critical": 90},
    LEARNING: {
        "kind": "records",
        "params": {"model": "chroniker.Run", "group_by": "status"},
        "operator": "unusual",
        "warning": 2,
        "critical": 3,
    },
}


def add_past_weeks(job: Job) -> None:
    """Samples of each hour of the history in four past weeks: 50, 60 and 70."""
    Sample.objects.bulk_create(
        Sample(
            job_id=job.pk,
            at=NOON - timedelta(weeks=week, hours=hour) + minutes(value - 50),
            severity=0,
            series={name: [value, 0] for name in GROUPS},
        )
        for week in range(1, 5)
        for hour in range(28)
        for value in (50, 60, 70)
    )


class RecordedSite:
    """Jobs that succeed, fail, are late, still run, or did not run since yesterday."""

    def __init__(self) -> None:
        self.jobs = {name: make_job(name=name, **DEFINITIONS.get(name, {})) for name in JOBS}
        for name in MONITORS:
            self.jobs[name] = Monitor.objects.define(
                name=name, schedule="0 * * * *", timezone="UTC", **PROBES[name]
            )
        Job.objects.filter(name="orders").update(minimum_seconds=1)
        add_past_weeks(self.jobs[LEARNING])
        reader = User.objects.create_user("reader", "reader@example.com")
        self.jobs["broken"].subscribers.add(reader)
        Counter.objects.add("notification_failures", 2)
        for name in ("web1", "web2"):
            Host.objects.create(name=name, last_tick_at=HISTORY_START, tick_seconds=0.2)
        for job in self.jobs.values():
            for host in ("web1", "web2") if job.every_host else ("",):
                JobState.objects.create(job=job, host=host, next_run_at=NOON + minutes(37))
        for name in ("late", "waiting"):
            self.states(name).update(next_run_at=NOON - minutes(10))
        self.states("disabled").update(next_run_at=None)

    def states(self, name: str):  # type: ignore[no-untyped-def]
        return JobState.objects.filter(job=self.jobs[name])

    def run(self, name: str, now: datetime, seconds: float = 3, ok: bool = True) -> None:
        job = self.jobs[name]
        status = RunStatus.SUCCEEDED if ok else RunStatus.FAILED
        for host in ("web1", "web2") if job.every_host else ("",):
            make_finished_run(job, now, status, seconds, host)
            state = JobState.objects.get(job=job, host=host)
            state.last_max_rss_bytes = 50_000_000
            state.start_lag_buckets = add_observation(state.start_lag_buckets, 0.4)
            state.start_lag_count += 1
            state.start_lag_seconds_sum += 0.4
            state.save()

    def measure(self, name: str, now: datetime) -> None:
        """Record a sample as a check does, with the incident it may open."""
        job = self.jobs[name]
        assert isinstance(job, Monitor)
        value = MONITORS[name] - (NOON - now) / timedelta(hours=1)
        severity = job.probe.evaluate(value)
        taken = Measurement(severity, value, f"{value:.1f} % of /", "%", latency_seconds=0.02)
        if name == LEARNING:
            series = tuple(SeriesValue(*group) for group in zip(GROUPS, (value, 60.0), strict=True))
            taken = Measurement(Severity.OK, unit="rows", latency_seconds=0.02, series=series)
        record_measurement(job, job.probe, "", lambda state: taken, now=now)

    def mute(self) -> None:
        """An active window by the clock of the database, which the page uses."""
        window = Maintenance.objects.create(
            starts_at=utc_now() - minutes(60), ends_at=utc_now() + minutes(60)
        )
        for name in MUTED:
            MaintenanceJob.objects.create(maintenance=window, job=self.jobs[name])

    def step(self, number: int, now: datetime) -> None:
        """Everything that happens until this moment."""
        left = NOON - now
        Host.objects.filter(name="web1").update(last_tick_at=now - timedelta(seconds=20))
        if left > minutes(60):
            Host.objects.filter(name="web2").update(last_tick_at=now - timedelta(seconds=50))
        if number == 90:
            self.run("daily", now, seconds=900)
        if number % 15 == 0:
            self.run("hourly", now, seconds=20)
            self.run("everywhere", now)
            self.run("broken", now, ok=left > minutes(200))
            for name in MONITORS:
                self.measure(name, now)
                self.run(name, now, seconds=0.4, ok=(name, number) != ("disk", 30))
        if left == minutes(88):
            self.mute()
        if left == minutes(20):
            Maintenance.objects.all().delete()
        if number % 60 == 0:
            self.states("hourly").update(missed_overlap=F("missed_overlap") + 1)
        if left == minutes(40):
            Host.objects.filter(name="web2").update(paused=True)
        if left == minutes(8):
            state = start_run(self.jobs["long"], now)
            self.states("long").update(
                lease_host="web1", parts_total=100, parts_done=30, progress_at=now
            )
            assert state.lease_token
        if not left:
            self.states("long").update(parts_done=60, progress_at=now)
            self.states("late").update(blocked_reason="command")
            self.states("waiting").update(blocked_reason="dependency")

    def page(self) -> Iterator[str]:
        """The lines of the current page."""
        text, up = render_chroniker_page()
        assert up
        return (line for line in text.decode().splitlines() if not line.startswith("#"))


DEFINITIONS = {
    "hourly": {
        "schedule": "0 * * * *", "expected_seconds": 60, "minimum_seconds": 1,
        "success_objective": 99, "team": "shop",
    },
    "daily": {"schedule": "0 3 * * *", "timeout_seconds": 3600},
    "late": {"schedule": "50 * * * *", "start_deadline_seconds": 900},
    "long": {
        "schedule": "0 12 * * *", "timeout_seconds": 600, "expected_seconds": 500,
        "finish_by": "5m",
    },
    "everywhere": {"hostname": "*"},
    "disabled": {"enabled": False},
}  # fmt: skip


def write_scrapes(path: Path) -> None:
    """Write the day as text for promtool; needs a database without jobs."""
    assert not Job.objects.exists()
    site, now, number = RecordedSite(), HISTORY_START, 0
    with path.open("w") as file:
        while now <= NOON:
            site.step(number, now)
            lines = [*site.page()]
            for job, instance in (
                ("chroniker", "web1:80"),
                ("chroniker", "web2:80"),
                ("single", "web1:80"),
                ("churning", f"pod-{number // STEPS_PER_POD}:80"),
            ):
                for line in [*lines, "up 1"]:
                    found = SAMPLE_LINE.fullmatch(line)
                    assert found, line
                    labels = f'job="{job}",instance="{instance}"'
                    labels += f",{found[2]}" if found[2] else ""
                    file.write(f"{found[1]}{{{labels}}} {found[3]} {now.timestamp()}\n")
            now, number = now + STEP, number + 1
        file.write("# EOF\n")


def create_blocks(text: Path, folder: Path) -> None:
    """Convert it to Prometheus blocks; few, because promtool reads the text once per block."""
    command = ("tsdb", "create-blocks-from", "--max-block-duration=60h", "openmetrics")
    done = run_promtool(*command, text, folder)
    assert done.returncode == 0, done.stdout + done.stderr
