"""Experiments with monitors that are measured together, and processes of batches that are killed.

In addition to the guarantees of every run: each check that ended has exactly one sample, and only
one that did not succeed is unknown.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.faults import site
from tests.faults.actions import FaultActions
from tests.faults.checker import History, JobFacts
from tests.faults.hosts import alive, proc_children
from tests.faults.injector import FaultInjector, FleetConfig
from tests.faults.plan import Plan, Step
from tests.faults.scenarios import SCENARIOS, Experiment

MONITORS = 30


class BatchActions(FaultActions):
    """Kills guards and workers of batches as well."""

    killed_workers = 0

    def _guards(self, step: Step) -> list[int]:
        """Guards of several runs: one that is executed alone has failed if its guard is killed."""
        jobs = self._fleet.hosts[step.host].roles().jobs
        return [pid for pid in jobs if len(proc_children(pid)) > 1]

    def kill_guard(self, step: Step) -> None:
        """Kill the process that contains the workers."""
        self._kill(self._guards(step))

    def kill_worker(self, step: Step) -> None:
        workers = [pid for guard in self._guards(step) for pid in proc_children(guard)]
        if living := [pid for pid in workers if alive(pid)]:
            self._kill(living)
            self.killed_workers += 1


def add_monitors(experiment: Experiment, *, every: int = 1) -> None:
    """Monitors that take a few milliseconds each."""
    from chroniker_monitors.models import Monitor

    for number in range(MONITORS):
        monitor = Monitor.objects.define(
            name=f"monitor {number}",
            kind="test_unruly",
            params={"nap_seconds": 0.02},
            schedule=f"@every {every}s",
            max_runs_kept=None,
        )
        created = site.micros(monitor.created_at.replace(microsecond=0))
        type(monitor).objects.filter(pk=monitor.pk).update(
            created_at=monitor.created_at.replace(microsecond=0)
        )
        experiment.jobs.append(
            JobFacts(
                key=monitor.pk, name=monitor.name, period=every * 1_000_000, created=created,
                is_recorded=False,
            )
        )  # fmt: skip


def _perform(experiment: Experiment, config: FleetConfig, plan: Plan, *, every: int = 1) -> History:
    add_monitors(experiment, every=every)
    config.prepare = experiment.prepare
    injector = FaultInjector(config, experiment.directory, experiment.seed)
    injector.actions = actions = BatchActions(injector)
    history = injector.perform(plan, experiment.jobs)
    experiment.notes["kinds"] = injector.done
    experiment.notes["killed_workers"] = actions.killed_workers
    experiment.notes.update(_samples())
    return history


def _samples() -> dict[str, Any]:
    """Checks whose samples do not match, and how many measurements are unknown."""
    from chroniker.models import Run
    from chroniker_monitors.enums import Severity
    from chroniker_monitors.models import MonitorState, Sample

    ended = Run.objects.filter(status__in=("succeeded", "failed", "timed_out", "lost"))
    runs = Counter(ended.values_list("job", flat=True))
    broken = Counter(ended.exclude(status="succeeded").values_list("job", flat=True))
    samples = Counter(Sample.objects.values_list("job", flat=True))
    unknown = Counter(
        Sample.objects.filter(severity=Severity.UNKNOWN).values_list("job", flat=True)
    )
    counted = dict(MonitorState.objects.values_list("job", "samples_total"))
    return {
        "samples": samples.total(),
        "unknown": unknown.total(),
        "wrong_samples": [job for job in runs | samples if samples[job] != runs[job]],
        "wrong_unknown": [job for job in broken | unknown if unknown[job] != broken[job]],
        "wrong_totals": [job for job in samples if counted.get(job) != samples[job]],
        "errors": dict(Counter(ended.exclude(error="").values_list("error", flat=True))),
        "batches": Run.objects.exclude(pid=None).values("pid").distinct().count(),
    }


def _alternating(kinds: tuple[str, ...], seconds: float, apart: float, hosts: int) -> list[Step]:
    steps = []
    at = 1.2
    while at < seconds - 1.5:
        number = len(steps)
        steps.append(Step(round(at, 3), kinds[number % len(kinds)], f"h{number % hosts + 1}"))
        at += apart
    return steps


def killed_batches(experiment: Experiment, seconds: float = 8.0) -> History:
    """Guards and workers of batches are killed while they measure."""
    steps = _alternating(("kill_guard", "kill_worker"), seconds, 0.2, 1)
    config = FleetConfig(hosts=1, settle=False, servers="all")
    return _perform(experiment, config, Plan(experiment.seed, seconds, steps))


def crashing_batches(experiment: Experiment, seconds: float = 9.0) -> History:
    """Everything around a batch is killed: wardens, fork servers, ticks, guards, workers."""
    kinds = ("kill_guard", "kill_warden", "kill_worker", "kill_tick", "kill_forkserver")
    steps = _alternating(kinds, seconds, 0.31, 2)
    return _perform(experiment, FleetConfig(hosts=2), Plan(experiment.seed, seconds, steps))


def lost_batch_commits(experiment: Experiment, seconds: float = 9.0) -> History:
    """COMMITs of claims and ends succeed and their replies are lost."""
    steps = [
        Step(round(1.5 + 0.7 * number, 3), "lose_commits", f"h{number % 2 + 1}", number=1)
        for number in range(int((seconds - 3) / 0.7))
    ]
    config = FleetConfig(hosts=2, servers="all")
    return _perform(experiment, config, Plan(experiment.seed, seconds, steps), every=2)


SCENARIOS.update(
    {
        scenario.__name__: scenario
        for scenario in (killed_batches, crashing_batches, lost_batch_commits)
    }
)
