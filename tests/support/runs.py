"""What a run left in the database, and requests to stop it."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from chroniker.models import Job, JobState, OutputChunk, Run


def stored_output(run: Run, stream: str) -> str:
    return "".join(chunk.text for chunk in OutputChunk.objects.filter(run=run).of_stream(stream))


def request_stop(job: Job) -> None:
    assert JobState.objects.filter(job=job).request_stop(datetime.now(UTC))


def run_check_monitor(*args: Any, **options: Any) -> tuple[int, str]:
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("check_monitor", *args, stdout=out, **options)
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue().strip()
