"""Counters over an hour of a busy site, and exemplars that name the runs."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from chroniker.engine.retention import prune_runs
from chroniker.enums import RunStatus
from chroniker.models import Host, Job, JobState, Run
from chroniker_monitors.collector.prometheus import current_config
from chroniker_monitors.collector.rows import take_snapshot
from chroniker_monitors.exposition.formats import OPENMETRICS as OPENMETRICS_FORMAT
from chroniker_monitors.exposition.formats import TEXT
from chroniker_monitors.exposition.renderer import Renderer
from tests.factories import NOON, end, make_finished_run, make_job, start_run
from tests.support.metrics_page import OPENMETRICS, MetricsPage, Samples, samples, scrape

pytestmark = pytest.mark.django_db
COUNTING = ("_total", "_bucket", "_count", "_sum")
MINUTES = 60


class WebWorker:
    """A web worker, which keeps the rendered rows of its last page."""

    def __init__(self) -> None:
        self.renderer = Renderer(current_config())

    def scrape(self) -> Samples:
        snapshot = take_snapshot()
        assert snapshot.up
        # Rows cached by the other format must not matter.
        self.renderer(snapshot, OPENMETRICS_FORMAT)
        return samples(b"".join(self.renderer(snapshot, TEXT)).decode())


class SimulatedSite:
    """A site whose jobs run, fail, are edited, renamed, deleted and pruned."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = NOON
        self.done: Counter[str] = Counter()
        self.names = 0
        self.watched = [make_job(name=f"watched {n}", max_runs_kept=2) for n in range(3)]
        self.watched.append(make_job(name="watched everywhere", hostname="*"))
        self.others = [self.another() for _ in range(3)]
        self.running: list[JobState] = []
        for host in ("web1", "web2"):
            Host.objects.create(name=host, last_tick_at=NOON)

    def another(self) -> Job:
        self.names += 1
        return make_job(name=f"other {self.names}")

    def minute(self) -> None:
        self.now += timedelta(minutes=1)
        for job in (*self.watched, *self.others):
            operation = self.rng.choice(["run", "run", "run", "miss", "retry", "start_run", "rest"])
            getattr(self, operation)(job)
            self.done[operation] += 1
        operation = self.rng.choice(["edit", "rename", "delete", "prune", "toggle"])
        getattr(self, operation)()
        self.done[operation] += 1

    def slot(self, job: Job) -> str:
        return self.rng.choice(["web1", "web2"]) if job.every_host else ""

    def run(self, job: Job) -> None:
        states = [state for state in self.running if state.job_id == job.pk]
        status = self.rng.choice([RunStatus.SUCCEEDED] * 3 + [*RunStatus])
        if status in (RunStatus.RUNNING, RunStatus.MISSED):
            status = RunStatus.FAILED
        seconds = None if status == RunStatus.LOST else self.rng.expovariate(0.1)
        if states:
            self.running.remove(states[0])
            end(states[0], self.now, status, seconds)
        else:
            make_finished_run(job, self.now, status, seconds, self.slot(job))

    def start_run(self, job: Job) -> None:
        if not any(state.job_id == job.pk for state in self.running):
            self.running.append(start_run(job, self.now, self.slot(job)))

    def miss(self, job: Job) -> None:
        field = self.rng.choice(["missed_overlap", "missed_downtime", "missed_deadline"])
        JobState.objects.filter(job=job).update(**{field: F(field) + 1})

    def retry(self, job: Job) -> None:
        JobState.objects.filter(job=job).update(
            retries_total=F("retries_total") + 1,
            start_lag_count=F("start_lag_count") + 1,
            start_lag_seconds_sum=F("start_lag_seconds_sum") + 0.25,
        )

    def rest(self, job: Job) -> None:
        """Do nothing."""

    def edit(self) -> None:
        job = self.rng.choice(self.watched)
        job.schedule = f"@every {self.rng.randrange(1, 90)}m"
        job.timeout_seconds = self.rng.choice([None, 60, 600])
        job.description = "edited"
        job.save()

    def toggle(self) -> None:
        job = self.rng.choice(self.watched)
        Job.objects.filter(pk=job.pk).update(enabled=self.rng.random() < 0.5)

    def rename(self) -> None:
        self.names += 1
        job = self.rng.choice(self.others)
        Job.objects.filter(pk=job.pk).update(name=f"renamed {self.names}")

    def delete(self) -> None:
        job = self.others.pop(self.rng.randrange(len(self.others)))
        self.running = [state for state in self.running if state.job_id != job.pk]
        job.delete()
        self.others.append(self.another())

    def prune(self) -> None:
        for job in self.watched:
            prune_runs(job, self.rng.choice([0, 1, 2]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_counters_never_fall(seed: int) -> None:
    """Compare sample by sample; two workers are scraped in turn and sometimes restarted."""
    site = SimulatedSite(seed)
    workers = [WebWorker(), WebWorker()]
    highest: Samples = {}
    first: Samples = {}
    for minute in range(MINUTES):
        site.minute()
        if minute % 13 == 7:
            workers[site.rng.randrange(2)] = WebWorker()
            site.done["restart"] += 1
        page = workers[minute % 2].scrape()
        for key, value in page.items():
            if key[0].endswith(COUNTING):
                assert value >= highest.get(key, 0.0), (minute, key)
                highest[key] = value
                first.setdefault(key, value)
        gone = {key for key in first if key not in page}
        assert not any("watched" in dict(labels)["job_name"] for _, labels in gone)
    assert all(
        site.done[operation] for operation in ("run", "miss", "edit", "rename", "delete", "prune")
    )
    assert site.done["restart"] >= 4
    for job in site.watched:  # the counters did increase
        counted = [
            value
            for (name, labels), value in highest.items()
            if name == "chroniker_job_runs_total" and ("job_name", job.name) in labels
        ]
        states = JobState.objects.filter(job=job).order_by("host")
        assert sorted(counted) == sorted(state.runs_total for state in states)
        assert sum(counted) > Run.objects.filter(job=job).count()  # though most were pruned


# --- exemplars ------------------------------------------------------------------------------


def exemplars() -> dict[str, tuple[dict[str, str], dict[str, str], float, float]]:
    """Exemplars of the OpenMetrics page by sample name: labels, exemplar labels, value, time."""
    page = scrape(accept=OPENMETRICS)
    assert " # {" not in scrape()
    return {
        sample.name: (
            sample.labels,
            sample.exemplar.labels,
            sample.exemplar.value,
            float(sample.exemplar.timestamp),
        )
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.exemplar
    }


def test_exemplar_names_the_run_behind_duration_and_failure() -> None:
    job = make_job(name="a")
    assert exemplars() == {}
    run = make_finished_run(job, NOON, RunStatus.TIMED_OUT, 12.5)
    shown = {"run_id": str(run.pk)}
    assert exemplars() == {
        "chroniker_job_duration_seconds_bucket": (
            {"job_name": "a", "le": "15.0"}, shown, 12.5, NOON.timestamp(),
        ),
        "chroniker_job_failures_total": (
            {"job_name": "a", "reason": "timeout"}, shown, 1, NOON.timestamp(),
        ),
    }  # fmt: skip
    run = make_finished_run(job, NOON + timedelta(hours=1), seconds=100_000)
    assert exemplars() == {
        "chroniker_job_duration_seconds_bucket": (
            {"job_name": "a", "le": "+Inf"},
            {"run_id": str(run.pk)},
            100_000,
            NOON.timestamp() + 3600,
        ),
    }


@pytest.mark.parametrize("status", [RunStatus.LOST, RunStatus.FAILED])
def test_run_of_unknown_duration_is_not_a_duration_exemplar(status: RunStatus) -> None:
    """The state keeps the duration of the previous run."""
    job = make_job(name="a")
    make_finished_run(job, NOON)
    make_finished_run(job, NOON + timedelta(hours=1), status, None)
    assert set(exemplars()) == {"chroniker_job_failures_total"}


def test_run_that_was_pruned_is_not_an_exemplar() -> None:
    job = make_job(name="a")
    make_finished_run(job, NOON, RunStatus.FAILED)
    prune_runs(job, 0)
    assert exemplars() == {}


def test_exemplar_goes_with_the_run_on_each_host(settings: Any) -> None:
    job = make_job(name="a", hostname="*")
    make_finished_run(job, NOON, RunStatus.FAILED, host="web1")
    make_finished_run(job, NOON, host="web2")
    page = MetricsPage(scrape())
    assert page("chroniker_job_runs_total", job_name="a", host="web2") == 1
    [failure] = [
        line
        for line in scrape(accept=OPENMETRICS).splitlines()
        if line.startswith("chroniker_job_failures_total") and " # {" in line
    ]
    assert 'host="web1"' in failure
    settings.CHRONIKER_METRICS_HISTOGRAMS = False
    assert set(exemplars()) == {"chroniker_job_failures_total"}
