"""Change fields of jobs for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chroniker.models import Job


@contextmanager
def override_jobs(*names: str, **fields: Any) -> Iterator[None]:
    """Change fields of the named jobs, or of all, and restore them at the end.

    It is a context manager and a decorator, like ``override_settings``::

        with override_jobs(enabled=False):
            ...

        @override_jobs("import sales", args="--dry-run")
        def test_import(self): ...
    """
    jobs = Job.objects.filter(name__in=names) if names else Job.objects.all()
    before = {row.pop("pk"): row for row in jobs.values("pk", *fields)}
    missing = set(names) - set(jobs.values_list("name", flat=True))
    if missing:
        raise AssertionError(f"There is no job {', '.join(sorted(missing))}.")
    jobs.update(**fields)
    try:
        yield
    finally:
        for key, values in before.items():
            Job.objects.filter(pk=key).update(**values)
