"""Schedules at a time that the test chooses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.utils.timezone import is_naive

from chroniker.conf import conf
from chroniker.engine.planning import plan_changed_jobs
from chroniker.models import Host, Job, JobState

from .inline import JobResult, claim_jobs, execute

_MAX_RUNS = 1000
"""How many runs one call of ``run_due()`` may make, before it gives up."""


class FrozenSchedules:
    """The schedules of all jobs, at a time that only :meth:`advance` moves."""

    def __init__(self, now: datetime) -> None:
        if is_naive(now):
            raise ValueError("The time needs a time zone: datetime(2026, 3, 2, tzinfo=UTC).")
        self.now = now

    def advance(self, **delta: float) -> None:
        """Move the time, as in ``advance(hours=3)``. Nothing runs."""
        step = timedelta(**delta)
        if step < timedelta():
            raise ValueError("Time does not go back.")
        self.now += step

    def due(self) -> list[str]:
        """Return the names of the jobs that a tick would start now, in its order."""
        plan_changed_jobs(self.now)
        states = JobState.objects.for_host(conf.HOSTNAME).unpaused(self.now)
        found = states.due(self.now).unblocked(self.now).order_by("-job__priority", "due_at", "pk")
        return list(found.values_list("job__name", flat=True))

    def next_run(self, job: Job | str) -> datetime | None:
        """Return when a job is due next; None if only a request or another job starts it."""
        plan_changed_jobs(self.now)
        name = job if isinstance(job, str) else job.name
        moments = JobState.objects.filter(job__name=name, due_at__isnull=False)
        return moments.order_by("due_at").values_list("due_at", flat=True).first()

    def run_due(self) -> list[JobResult]:
        """Run what is due inline, then what that makes due (jobs downstream), until nothing is."""
        results: list[JobResult] = []
        while claimed := claim_jobs(None, self.now, force=False):
            for item in claimed:
                results.append(execute(item, self.now))
            if len(results) > _MAX_RUNS:
                raise AssertionError(f"More than {_MAX_RUNS} runs at one time: do jobs start each "
                                     "other in a circle?")  # fmt: skip
        return results


@contextmanager
def freeze_schedules(now: datetime) -> Iterator[FrozenSchedules]:
    """Compute all schedules at ``now``: what is due, and when each job runs next.

    Slots before ``now`` are forgotten: each job is as if it had been created then.
    """
    Host.objects.get_or_create(name=conf.HOSTNAME)
    frozen = FrozenSchedules(now)
    JobState.objects.filter(lease_token__isnull=True).delete()
    Job.objects.update(planned_from="", created_at=now)
    yield frozen
