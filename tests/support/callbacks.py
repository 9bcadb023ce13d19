"""Functions for CHRONIKER_JOB_ERROR_CALLBACK."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings

from chroniker.models import Job, Run


def record_call(job: Job, stdout: str, stderr: str, run: Run) -> None:
    """Record the arguments, and the status of the run in the database at that time."""
    known = Run.objects.get(pk=run.pk).status
    with open(settings.CALLS_FILE, "a") as file:
        file.write(json.dumps([job.name, stdout, stderr, run.status, known]) + "\n")


def record_legacy_call(job: Job, stdout: str, stderr: str) -> None:
    """A callback with the signature of django-chroniker."""
    with open(settings.CALLS_FILE, "a") as file:
        file.write(json.dumps([job.name, stdout, stderr]) + "\n")


def raise_value_error(job: Job, **kwargs: Any) -> None:
    record_legacy_call(job, "", "")
    raise ValueError("the callback itself is broken")


def leave(job: Job, **kwargs: Any) -> None:
    record_legacy_call(job, "", "")
    raise SystemExit(3)


NOT_CALLABLE = 7
