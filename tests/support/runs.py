"""What a run left in the database, and requests to stop it."""

from __future__ import annotations

from datetime import UTC, datetime

from chroniker.models import Job, JobState, OutputChunk, Run


def stored_output(run: Run, stream: str) -> str:
    return "".join(chunk.text for chunk in OutputChunk.objects.filter(run=run).of_stream(stream))


def request_stop(job: Job) -> None:
    assert JobState.objects.filter(job=job).request_stop(datetime.now(UTC))
