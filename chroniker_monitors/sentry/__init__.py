"""Sentry, if the site has set it up: check-ins of scheduled jobs, and exceptions of jobs.

Nothing here imports sentry-sdk. A site that uses it has imported and initialised it before a
signal is sent. For all other sites the cost is one lookup in ``sys.modules``.

- In the tick (``check_ins``): a check-in when a run starts and when it ends. The SDK's own thread
  sends them; the process waits for it only when it exits. Missed slots need no check-in, because
  Sentry knows the schedule.
- In a job's process (``events``): tags, masked secrets, the exception as an event, and a flush.
"""

from __future__ import annotations

from chroniker.signals import job_process_started, job_raised, run_finished, run_started

from .check_ins import check_in_end, check_in_start
from .events import capture_exception, prepare_process


def connect() -> None:
    """Connect the receivers to the signals of runs and jobs."""
    uid = "chroniker_monitors.sentry"
    run_started.connect(check_in_start, dispatch_uid=uid)
    run_finished.connect(check_in_end, dispatch_uid=uid)
    job_process_started.connect(prepare_process, dispatch_uid=uid)
    job_raised.connect(capture_exception, dispatch_uid=uid)
