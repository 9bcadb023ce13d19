"""Jobs that are due, and a function to be called for those that fail."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings

from chroniker.models import Job, Run
from tests.support import make_job


def due_job(deed: str = "say hello", **fields: Any) -> Job:
    """A job whose only slot so far was a minute ago."""
    fields.setdefault("schedule", "@every 1h")
    fields.setdefault("created_at", datetime.now(UTC) - timedelta(minutes=61))
    if not fields.get("raw_command"):
        fields.setdefault("command", "act")
        fields.setdefault("args", deed)
    return make_job(**fields)


def note_call(job: Job, stdout: str, stderr: str, run: Run) -> None:
    """A callback: writes down what it was called with, and what the database says by then."""
    known = Run.objects.get(pk=run.pk).status
    with open(settings.CALLS_FILE, "a") as file:
        file.write(json.dumps([job.name, stdout, stderr, run.status, known]) + "\n")


def note_old_call(job: Job, stdout: str, stderr: str) -> None:
    """One that was written for the original."""
    with open(settings.CALLS_FILE, "a") as file:
        file.write(json.dumps([job.name, stdout, stderr]) + "\n")


def raise_error(job: Job, **kwargs: Any) -> None:
    note_old_call(job, "", "")
    raise ValueError("the callback itself is broken")


def leave(job: Job, **kwargs: Any) -> None:
    note_old_call(job, "", "")
    raise SystemExit(3)


NO_FUNCTION = 7
