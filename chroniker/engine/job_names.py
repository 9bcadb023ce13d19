"""Jobs that people name on a command line."""

from __future__ import annotations

from collections.abc import Iterable

from chroniker.models import Job


def find_jobs(names: Iterable[str]) -> tuple[list[Job], list[str]]:
    """The jobs with these names or, failing that, primary keys; and names without a match."""
    wanted = [name.strip() for name in names]
    jobs = {job.name: job for job in Job.objects.filter(name__in=wanted)}
    numbers = [name for name in wanted if name not in jobs and name.isdecimal()]
    found = Job.objects.in_bulk([int(name) for name in numbers if len(name) < 19])
    jobs |= {str(key): job for key, job in found.items()}
    known = {job.pk: job for job in jobs.values()}
    return list(known.values()), [name for name in wanted if name not in jobs]
