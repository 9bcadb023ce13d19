"""What happens to runs, told to whoever listens: mail, error trackers, a site's own code.

Each signal is sent after the transaction that made it true has been committed, in the process of
the tick, with ``sender`` the ``Run`` class, for incidents the ``Incident`` class. A receiver that
raises is logged and stops nothing.
"""

from __future__ import annotations

from django.dispatch import Signal

run_started = Signal()
"""A run was claimed and its process is about to start. Arguments: ``run``, ``job``."""

run_finished = Signal()
"""A run ended, whatever its status. Arguments: ``run``, ``job``."""

run_missed = Signal()
"""Slots were knowingly not run. Arguments: ``run`` (its ``missed`` row), ``job``."""

incident_opened = Signal()
"""An incident opened, muted or not. Arguments: ``incident``, ``job``."""

incident_resolved = Signal()
"""An incident is over. Arguments: ``incident``, ``job``."""
