"""An experiment: its jobs, and the history of a plan that is performed with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.faults import site
from tests.faults.history import SECOND, History, JobFacts
from tests.faults.injector import FaultInjector, FleetConfig
from tests.faults.plan import Plan


@dataclass(slots=True)
class Experiment:
    """The surroundings of an experiment."""

    directory: Path
    seed: int
    prepare: Callable[[], None] | None = None
    """A mutant, applied in each tick."""
    mutant: str = ""
    """The name of the mutant."""
    jobs: list[JobFacts] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def job(
        self,
        name: str,
        words: str,
        *,
        every: int | None = 1,
        ago: float = 0.0,
        created: datetime | None = None,
        **fields: Any,
    ) -> Any:
        """Define a job that runs ``every`` this many seconds, created ``ago`` seconds ago."""
        from chroniker.models import Job

        if created is None:
            now = datetime.now(UTC) - timedelta(seconds=ago)
            created = now.replace(microsecond=0)
        everywhere = fields.get("hostname") == "*"
        row = Job.objects.create(
            name=name,
            command=fields.pop("command", "record_run"),
            args=words,
            schedule=f"@every {every}s" if every else "",
            created_at=created,
            **fields,
        )
        self.jobs.append(
            JobFacts(
                key=row.pk,
                name=name,
                period=every * SECOND if every else None,
                created=None if everywhere else site.micros(created),
                max_retries=row.max_retries,
                is_recorded=row.command == "record_run",
                pruned=(row.max_runs_kept or 10**9) < 1000,
                restart_interrupted=row.restart_interrupted,
            )
        )
        return row

    def run_plan(self, fleet_config: FleetConfig, plan: Plan) -> History:
        """Perform a plan with these jobs."""
        fleet_config.prepare = self.prepare
        fleet_config.settle = fleet_config.settle and self.prepare is None
        injector = FaultInjector(fleet_config, self.directory, self.seed)
        history = injector.perform(plan, self.jobs)
        self.notes["faults"] = sum(injector.done.values())
        self.notes["kinds"] = injector.done
        return history


def fleet(experiment: Experiment, scale: int = 1) -> None:
    """Jobs with every kind of behaviour, about 20 slots per second; ``scale`` times as many."""
    for number in range(9 * scale):
        experiment.job(f"quick {number}", "quick", max_runs_kept=None)
    for number in range(3 * scale):
        experiment.job(f"sleeper {number}", f"sleep {0.3 + 0.5 * number}", max_runs_kept=None)
    for number in range(2):
        experiment.job(f"failing {number}", "fail 0.05", every=2 + number, max_retries=2,
                retry_delay_seconds=1, max_runs_kept=None)  # fmt: skip
    experiment.job("leaving", "exit", every=2, max_runs_kept=None)
    experiment.job(
        "stubborn", "ignore_sigterm 2", every=3, kill_grace_seconds=1, max_runs_kept=None
    )
    experiment.job(
        "stubborn for long", "ignore_sigterm 20", every=4, timeout_seconds=1, kill_grace_seconds=1,
        max_runs_kept=None,
    )  # fmt: skip
    for number in range(2):
        experiment.job(f"daemon {number}", f"daemonize {0.2 + number}", every=2 + number,
                kill_grace_seconds=1, max_runs_kept=None)  # fmt: skip
    experiment.job("flood", "flood 2", every=3, max_runs_kept=None)
    for number in range(2 * scale):
        experiment.job(f"query {number}", "query 0.4", every=2, max_runs_kept=None)
    experiment.job("progress", "progress 1.5", every=2, max_runs_kept=None)
    experiment.job("talker", "print_lines 2.5", every=3, max_runs_kept=None)
    experiment.job("writer", "write 0.2", every=2, max_runs_kept=None)
    experiment.job("impatient", "sleep 0.2", start_deadline_seconds=1, max_runs_kept=None)
    experiment.job("pruned", "quick", max_runs_kept=10)
    experiment.job("urgent", "quick", priority=10, max_runs_kept=None)
    experiment.job("everywhere", "quick --per-host", every=2, hostname="*", max_runs_kept=None)
    experiment.job("of one host", "sleep 0.5", every=2, hostname="h2", max_runs_kept=None)


def chain(experiment: Experiment) -> None:
    """Two jobs downstream of a third: one with a schedule, one without."""
    from chroniker.models import JobDependency

    first = experiment.job("first", "sleep 0.3", every=2, max_runs_kept=None)
    second = experiment.job("second", "quick", every=None, max_runs_kept=None)
    third = experiment.job("third", "quick", every=2, max_runs_kept=None)
    JobDependency.objects.create(downstream=second, upstream=first)
    JobDependency.objects.create(downstream=third, upstream=first, wait_for_success=False)
