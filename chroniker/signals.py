"""Signals about runs and incidents, for email, error trackers and a site's own code.

Signals of runs and incidents are sent after the transaction has been committed, in the process of
the tick, with the class ``Run`` or ``Incident`` as ``sender``. Those of runs are sent after what
was claimed has been started: a slow receiver delays no job, and a receiver that starts threads does
so after the fork server was forked. If a receiver raises, the exception is logged and nothing else
is affected.

Signals in the process of a job carry the :class:`~chroniker.processes.child.CommandSpec` of the
run; their ``sender`` is None. Raw commands have no such process.
"""

from __future__ import annotations

import sys

from django.dispatch import Signal
from django.utils.module_loading import import_string


def connect_lazily(
    signal: Signal, receiver: str, *, sender: object = None, uid: str = "", needs: str = ""
) -> None:
    """Connect a receiver whose module is imported when the signal is first sent.

    Parameters:
        receiver: its dotted path
        uid: the ``dispatch_uid``; by default the path
        needs: a module without which the receiver does nothing; it is not called as long as
            nobody has imported that module
    """

    def receive(**arguments: object) -> object:
        if needs and needs not in sys.modules:
            return None
        return import_string(receiver)(**arguments)

    signal.connect(receive, sender=sender, weak=False, dispatch_uid=uid or receiver)


pre_fork = Signal()
"""The fork server is about to be forked from the process of the tick. The jobs need not import
again what a receiver imports here. It must not start threads. ``sender`` is None. Arguments:
``jobs`` (the first to be started), ``long_running`` (whether the scheduler runs until it is
stopped)."""

tick_started = Signal()
"""A tick that may have something to do begins. Idle ticks of ``cron`` send nothing. ``sender`` is
None. Arguments: ``host``."""

tick_finished = Signal()
"""A tick has started what was due; what it started may run on. ``sender`` is None. Arguments:
``host``, ``error`` (the exception with which it ended, or None)."""

scheduler_ended = Signal()
"""The scheduler has ended with all its runs, and forks no more processes. ``sender`` is None."""

runs_starting = Signal()
"""Runs were claimed, and their processes are about to be started. A receiver may set
``run.traceparent``, which the process of the run gets as TRACEPARENT. It must not start threads,
and delays the starts. ``sender`` is None. Arguments: ``runs``."""

run_started = Signal()
"""A run was claimed and its process was started. Arguments: ``run``, ``job``."""

run_finished = Signal()
"""A run ended, with any status. Arguments: ``run``, ``job``, ``batch`` (the batch runner that has
recorded what the run gave, or empty)."""

run_missed = Signal()
"""Slots were missed. Arguments: ``run`` (the row with status ``missed``), ``job``."""

job_process_started = Signal()
"""The process of a job is about to run its command. Arguments: ``spec``."""

job_raised = Signal()
"""The command raised an exception, ``CommandError`` included; ``SystemExit`` and interrupts do not
count. Sent in the process of the job. Arguments: ``spec``, ``error``, ``traceback`` (from the first
frame of the command on)."""

incident_opened = Signal()
"""An incident opened, muted, folded or announced. Arguments: ``incident``, ``job`` (None if the
incident is of a host)."""

incident_resolved = Signal()
"""An incident was resolved or closed. Arguments: ``incident``, ``job`` (None as above)."""
