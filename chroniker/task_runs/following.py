"""In a job's process: send a task to its backend, and follow it to its result.

The process ends when the run ends. What the backend has begun goes on, because ``django.tasks`` has
no way to stop it; the note that is kept with the run says so.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.db import close_old_connections

from chroniker.db.alias import atomic
from chroniker.enums import RunStatus
from chroniker.exceptions import TaskNotSuccessful
from chroniker.models import Run
from chroniker.site_tasks import (
    Task,
    TaskArguments,
    TaskLibrary,
    TaskResult,
    check_backend,
    describe_error,
)

Note = Callable[[str], None]
"""Keeps a sentence about the task, for a run that is ended before its task."""

_FIRST_POLL_SECONDS, _POLL_SECONDS = 0.1, 2.0
_MISSING_SECONDS = 10.0
"""How long a result may be missing: a replica may lag behind, a cache expire."""
_UNREACHABLE_SECONDS = 300.0
_LEFT_UNFINISHED = (
    RunStatus.INTERRUPTED, RunStatus.LOST, RunStatus.TIMED_OUT, RunStatus.STOPPED,
)  # fmt: skip
"""The attempts that end before their task does."""


@dataclass(frozen=True, slots=True)
class Follower:
    """Follows the task of one run."""

    run_id: int
    task: Task
    library: TaskLibrary
    note: Note

    def run(self, arguments: TaskArguments) -> object:
        """Enqueue the task, wait for its end, and return what it returned.

        If an earlier attempt at the slot has enqueued it and was ended before it, its result is
        followed instead. Raises TaskNotSuccessful, CommandRefused if the backend does not store
        results, and what the backend raises when it does not take the task.
        """
        check_backend(self.task)
        result = self._wait(self._earlier_result() or self._enqueue(arguments))
        if str(result.status) == "FAILED":
            self._raise_error(result)
        return result.return_value

    def _enqueue(self, arguments: TaskArguments) -> TaskResult:
        if self.library.executes_at_once(self.task.get_backend()):
            return self.task.enqueue(*arguments.args, **arguments.kwargs)
        with atomic():  # a backend in the same database stores the task and its id, or neither
            result = self.task.enqueue(*arguments.args, **arguments.kwargs)
            self._store(result)
        return result

    def _store(self, result: TaskResult) -> None:
        Run.objects.filter(pk=self.run_id).update(task_result_id=result.id)

    def _earlier_result(self) -> TaskResult | None:
        """The result of an earlier attempt at the same slot, if it counts for this one."""
        run = Run.objects.filter(pk=self.run_id).first()
        if run is None or run.attempt == 1:
            return None
        attempts = Run.objects.filter(
            job=run.job_id, host=run.host, scheduled_for=run.scheduled_for, attempt__lt=run.attempt
        )
        earlier = attempts.exclude(task_result_id="").order_by("-attempt").first()
        if earlier is None or earlier.status not in _LEFT_UNFINISHED or earlier.args != run.args:
            return None
        try:
            result = self.task.get_backend().get_result(earlier.task_result_id)
        except self.library.no_such_result:
            return None
        if str(result.status) == "FAILED" and earlier.status != RunStatus.INTERRUPTED:
            return None  # this attempt is the retry of that failure
        self._store(result)
        return result

    def _wait(self, result: TaskResult) -> TaskResult:
        """Ask the backend until the task has ended. Raises TaskNotSuccessful if it cannot say."""
        began = since = time.monotonic()
        status = ""
        while not result.is_finished:
            if status != str(result.status):
                status = str(result.status)
                self.note(_describe(result))
            now = time.monotonic()
            time.sleep(min(_POLL_SECONDS, max(_FIRST_POLL_SECONDS, (now - began) / 10)))
            try:
                result = self.task.get_backend().get_result(result.id)
                since = time.monotonic()
            except self.library.no_such_result as error:
                self._give_up(since, _MISSING_SECONDS, f"has lost the result {result.id}", error)
            except Exception as error:  # whatever the backend raises when it cannot be reached
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                text = f"could not be asked for the result {result.id}: {reason}"
                self._give_up(since, _UNREACHABLE_SECONDS, text, error)
                close_old_connections()
        return result

    def _give_up(self, since: float, seconds: float, text: str, error: Exception) -> None:
        """Raise if the last answer is too long ago."""
        if time.monotonic() - since >= seconds:
            raise TaskNotSuccessful(
                f"The task backend {self.task.backend!r} {text}. Nobody knows how the task ended.",
                lost=True,
            ) from error

    def _raise_error(self, result: TaskResult) -> None:
        if not result.errors:
            raise TaskNotSuccessful("The task failed; its backend does not say why.")
        error = result.errors[-1]
        with contextlib.suppress(AttributeError, ValueError):
            sys.stderr.write(f"{error.traceback.rstrip()}\n")
        raise TaskNotSuccessful(describe_error(error))


def _describe(result: TaskResult) -> str:
    if str(result.status) == "READY":
        return (
            f"No worker has started the task (result {result.id}); it stays in the queue of its "
            "backend."
        )
    return f"A worker still runs the task (result {result.id}); task backends cannot stop one."
