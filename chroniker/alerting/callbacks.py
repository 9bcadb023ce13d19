"""The site's own function, called for each run that failed (``CHRONIKER_JOB_ERROR_CALLBACK``).

It is called as in the original, ``callback(job, stdout=…, stderr=…)``, and with ``run=…`` where
it takes that. It may leave out what it does not want.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chroniker.conf import conf
from chroniker.enums import RunStatus, Stream
from chroniker.signals import run_finished

if TYPE_CHECKING:
    from chroniker.models import Job, Run

logger = logging.getLogger(__name__)

FAILURES = frozenset({RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.LOST})
"""Who stopped a run by hand knows it."""
_SLOW_SECONDS = 5.0


def connect() -> None:
    """Listen to the ends of runs."""
    run_finished.connect(call_back, dispatch_uid="chroniker.alerting.callbacks")


def call_back(sender: Any, *, run: Run, job: Job, **kwargs: Any) -> None:
    """Call the site's function for a run that failed; whatever it raises is logged."""
    path = conf.JOB_ERROR_CALLBACK
    if not path or run.status not in FAILURES:
        return
    began = time.monotonic()
    try:
        from django.utils.module_loading import import_string

        callback = import_string(path)
        callback(job, **_wanted(callback, run))
    except (Exception, SystemExit):
        logger.exception("CHRONIKER_JOB_ERROR_CALLBACK %s, for run %s", path, run.pk)
    seconds = time.monotonic() - began
    if seconds > _SLOW_SECONDS:
        logger.warning(
            "CHRONIKER_JOB_ERROR_CALLBACK %s took %.1f s; it is called by the process that renews "
            "the leases of the running jobs, so let it hand on what takes long",
            path,
            seconds,
        )


def _wanted(callback: Callable[..., Any], run: Run) -> dict[str, Any]:
    """The keyword arguments that the function takes, read only where it does."""
    parameters = inspect.signature(callback).parameters.values()
    everything = any(each.kind is each.VAR_KEYWORD for each in parameters)
    named = {each.name for each in parameters if each.kind is not each.POSITIONAL_ONLY}
    found: dict[str, Any] = {}
    for stream in (Stream.STDOUT, Stream.STDERR):
        if everything or stream.value in named:
            found[stream.value] = _output(run, stream)
    if everything or "run" in named:
        found["run"] = run
    return found


def _output(run: Run, stream: Stream) -> str:
    """What was kept of a stream, its secrets masked."""
    pieces = run.output.filter(stream=stream).order_by("offset").values_list("text", flat=True)
    return "".join(pieces)
