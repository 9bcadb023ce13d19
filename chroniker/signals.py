"""What happens to runs, told to whoever listens: mail, error trackers, a site's own code.

What is told of runs and incidents is sent after the transaction that made it true has been
committed, in the process of the tick, with ``sender`` the ``Run`` or ``Incident`` class, and, of
runs, after what was claimed has been started: a receiver that is slow keeps no job waiting, and one
that starts threads does so after the process was forked that all jobs are forked from. A receiver
that raises is logged and stops nothing.

What is told in the process of a job has the :class:`~chroniker.processes.child.CommandSpec` of the run, and
``sender`` None. Raw commands have no such process.
"""

from __future__ import annotations

from django.dispatch import Signal

pre_fork = Signal()
"""In the tick's process: the one that runs are forked from is about to be forked. What a receiver
imports now, jobs need not import each by itself; it must not start threads. Sender None. Arguments:
``jobs`` (the first to be started), ``long_running`` (whether this scheduler goes on for ever)."""

run_started = Signal()
"""A run was claimed and its process was started. Arguments: ``run``, ``job``."""

run_finished = Signal()
"""A run ended, whatever its status. Arguments: ``run``, ``job``."""

run_missed = Signal()
"""Slots were knowingly not run. Arguments: ``run`` (its ``missed`` row), ``job``."""

job_process_started = Signal()
"""In the job's own process, before its command. Arguments: ``spec``."""

job_raised = Signal()
"""In the job's own process: its command raised, be it a ``CommandError``; leaving by ``SystemExit``
or an interrupt is no such thing. Arguments: ``spec``, ``error``, ``traceback`` (from the command's
own frames on)."""

incident_opened = Signal()
"""An incident opened, muted or not. Arguments: ``incident``, ``job``."""

incident_resolved = Signal()
"""An incident is over. Arguments: ``incident``, ``job``."""
