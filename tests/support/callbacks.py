"""Jobs that are due, and a function to be called for those that fail."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings

from chroniker.models import Job, Run

from .processes import make_job


def make_action_job(action: str = "say hello", **fields: Any) -> Job:
    """A job whose only slot so far was a minute ago."""
    fields.setdefault("schedule", "@every 1h")
    fields.setdefault("created_at", datetime.now(UTC) - timedelta(minutes=61))
    if not fields.get("raw_command"):
        fields.setdefault("command", "act")
        fields.setdefault("args", action)
    return make_job(**fields)


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
