"""Sentry, if the site has set it up: check-ins of scheduled jobs, and exceptions of jobs.

Nothing here imports sentry-sdk. A site that uses it has imported and initialised it before a
signal is sent; only then does the app import and call the receivers of this package. For all other
sites the cost is one lookup in ``sys.modules``.

- In the tick (``check_ins``): a check-in when a run starts and when it ends. The SDK's own thread
  sends them; the process waits for it only when it exits. Missed slots need no check-in, because
  Sentry knows the schedule.
- In a job's process (``events``): tags, masked secrets, the exception as an event, and a flush.
"""

from __future__ import annotations

import os

from chroniker import signals

SETUP_PID = os.getpid()
"""The process that has set Django up; a fork has another."""


def connect() -> None:
    """Connect the receivers to the signals of runs and jobs."""
    check_ins, events = f"{__name__}.check_ins", f"{__name__}.events"
    for signal, receiver in (
        (signals.pre_fork, f"{events}.preload"),
        (signals.run_started, f"{check_ins}.check_in_start"),
        (signals.run_finished, f"{check_ins}.check_in_end"),
        (signals.job_process_started, f"{events}.prepare_process"),
        (signals.job_raised, f"{events}.capture_exception"),
    ):
        signals.connect_lazily(signal, receiver, needs="sentry_sdk")
