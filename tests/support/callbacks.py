"""Jobs that are due, and a function to be called for those that fail."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings

from chroniker.models import Job, Run


def record_call(job: Job, stdout: str, stderr: str, run: Run) -> None:
    """A callback: writes down what it was called with, and what the database says by then."""
    known = Run.objects.get(pk=run.pk).status
    with open(settings.CALLS_FILE, "a") as file:
        file.write(json.dumps([job.name, stdout, stderr, run.status, known]) + "\n")


def record_legacy_call(job: Job, stdout: str, stderr: str) -> None:
    """One that was written for the original."""
    with open(settings.CALLS_FILE, "a") as file:
        file.write(json.dumps([job.name, stdout, stderr]) + "\n")


def raise_value_error(job: Job, **kwargs: Any) -> None:
    record_legacy_call(job, "", "")
    raise ValueError("the callback itself is broken")


def leave(job: Job, **kwargs: Any) -> None:
    record_legacy_call(job, "", "")
    raise SystemExit(3)


NOT_CALLABLE = 7
