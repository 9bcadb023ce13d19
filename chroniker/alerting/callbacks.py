"""The site's function that is called for each failed run (``CHRONIKER_JOB_ERROR_CALLBACK``).

It is called as ``callback(job, stdout=…, stderr=…, run=…)``, like that of django-chroniker, with
only the keyword arguments that it accepts.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

from chroniker.conf import conf
from chroniker.enums import RunStatus, Stream

if TYPE_CHECKING:
    from chroniker.models import Job, Run

from chroniker.logs import log_context

logger = logging.getLogger(__name__)

FAILURES = frozenset({RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.LOST})
"""Not ``stopped``: the person who stopped the run knows about it. ``interrupted`` is no failure."""
_SLOW_SECONDS = 5.0


class _CallbackArguments(TypedDict, total=False):
    stdout: str
    stderr: str
    run: Run


def call_back(sender: object, *, run: Run, job: Job, **kwargs: object) -> None:
    """Call the site's function for a failed run; log any exception that it raises."""
    path = conf.JOB_ERROR_CALLBACK
    if not path or run.status not in FAILURES:
        return
    context = log_context(job=job.name, run=run.pk, host=run.ran_on)
    started = time.monotonic()
    try:
        from django.utils.module_loading import import_string

        callback = import_string(path)
        callback(job, **_accepted_arguments(callback, run))
    except (Exception, SystemExit):
        logger.exception("CHRONIKER_JOB_ERROR_CALLBACK %s, for run %s", path, run.pk, extra=context)
    seconds = time.monotonic() - started
    if seconds > _SLOW_SECONDS:
        logger.warning(
            "CHRONIKER_JOB_ERROR_CALLBACK %s took %.1f s. It runs in the process that renews the "
            "leases of running jobs: move slow work to another process",
            path,
            seconds,
            extra=context,
        )


def _accepted_arguments(callback: Callable[..., object], run: Run) -> _CallbackArguments:
    """The keyword arguments that the function accepts; output is only read if it does."""
    parameters = inspect.signature(callback).parameters.values()
    accepts_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
    names = {each.name for each in parameters if each.kind is not each.POSITIONAL_ONLY}
    arguments = _CallbackArguments()
    if accepts_all or "stdout" in names:
        arguments["stdout"] = _output(run, Stream.STDOUT)
    if accepts_all or "stderr" in names:
        arguments["stderr"] = _output(run, Stream.STDERR)
    if accepts_all or "run" in names:
        arguments["run"] = run
    return arguments


def _output(run: Run, stream: Stream) -> str:
    """The stored output of a stream, with secrets masked."""
    pieces = run.output.filter(stream=stream).order_by("offset").values_list("text", flat=True)
    return "".join(pieces)
