"""Tasks, as a site writes them. With neither library this module cannot be imported."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings

from chroniker import current_run
from chroniker.models import Job

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task


@task
def say(text: str, *more: str, times: int = 1, end: str | None = None) -> None:
    """Write words to stdout."""
    for _ in range(times):
        sys.stdout.write(" ".join([text, *more]) + (end or "\n"))


@task
def fail(text: str) -> None:
    raise ValueError(text)


@task
def give(value: Any) -> Any:
    return value


@task
def give_set() -> set[int]:
    return {1}


@task
def leave(code: int) -> None:
    sys.exit(code)


@task
def rest(seconds: float, touch: str = "") -> None:
    if touch:
        Path(touch).touch()
    time.sleep(seconds)


@task
def flood(megabytes: int) -> None:
    os.write(1, b"HEAD\n")
    block = b"0123456789abcdef" * 64 * 1024
    for _ in range(megabytes):
        view = memoryview(block)
        while view:
            view = view[os.write(1, view) :]
    os.write(1, b"\nTAIL\n")


@task
def report_progress_to(number: int) -> None:
    for done in range(1, number + 1):
        Job.update_progress(total_parts=number, total_parts_complete=done)


@task
def log(text: str) -> None:
    logging.getLogger("bookshop.import").info(text)


@task(takes_context=True)
def say_context(context: Any, text: str) -> list[object]:
    run = current_run()
    return [text, context.attempt, run.job_name if run else "", context.task_result.args]


@task
async def say_later(text: str) -> str:
    return text


def no_task() -> None:
    """Not decorated."""


in_dummy = say.using(backend="dummy")
if "stored" in settings.TASKS:
    give_stored = give.using(backend="stored")
    fail_stored = fail.using(backend="stored")
    rest_stored = rest.using(backend="stored")
    say_context_stored = say_context.using(backend="stored")
