"""What a host and the database did when an incident opened.

It is taken after the commit that opens the incident, is bounded in time and size, and never fails.
Incidents that open within seconds share one.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.db import DatabaseError
from django.utils.timezone import now as utc_now

from chroniker.conf import conf
from chroniker.db.alias import atomic, database, on_commit
from chroniker.logs import log_context
from chroniker.masking import Masker, site_secrets
from chroniker.models import Incident, JobState

from .text import one_line

logger = logging.getLogger(__name__)

Snapshot = dict[str, Any]
"""JSON. Any: the values are numbers, texts and lists."""

SHARED_SECONDS = 10.0
"""How long a snapshot is used for further incidents."""
_CPU_SECONDS = 0.1
"""How long the CPU use of the processes is measured."""
_LISTED = 5
_JOBS = 10
_QUERY_LENGTH = 200
_LOCK_TIMEOUT_MS = 500


def store_snapshot(incident: Incident) -> None:
    """Take a snapshot for an incident that has just been opened, after the commit."""
    on_commit(lambda: _store(incident.pk))


def _store(incident: int) -> None:
    try:
        Incident.objects.filter(pk=incident).update(snapshot=_recent.get())
    except Exception:
        logger.warning(
            "No snapshot of incident %s could be stored", incident, exc_info=True,
            extra=log_context(),
        )  # fmt: skip


class _RecentSnapshot:
    """The last snapshot of this process."""

    def __init__(self) -> None:
        self._snapshot: Snapshot = {}
        self._taken_at = float("-inf")

    def get(self) -> Snapshot:
        """A snapshot that is at most :data:`SHARED_SECONDS` old."""
        if time.monotonic() - self._taken_at > SHARED_SECONDS:
            self._snapshot = take_snapshot(utc_now())
            self._taken_at = time.monotonic()
        return self._snapshot


_recent = _RecentSnapshot()


def take_snapshot(now: datetime) -> Snapshot:
    """Load, memory and top processes of this host; the jobs that run; and blocking locks."""
    return {
        "taken_at": now.isoformat(),
        "host": conf.HOSTNAME or socket.gethostname(),
        **_machine(),
        "running": _running_jobs(),
        "locks": blocking_locks(),
    }


def _machine() -> Snapshot:
    import psutil

    memory = psutil.virtual_memory()
    swap = psutil.swap_memory()
    return {
        "load": [round(value, 2) for value in os.getloadavg()],
        "cores": psutil.cpu_count() or 1,
        "memory_percent": memory.percent,
        "memory_available_bytes": memory.available,
        "swap_percent": swap.percent,
        "processes": _top_processes(),
    }


def _top_processes() -> list[Snapshot]:
    """The processes that use the most CPU and the most memory. Names only: arguments have secrets.

    CPU is in percent of one core, over a tenth of a second.
    """
    import psutil

    before: dict[int, float] = {}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            times = process.cpu_times()
            before[process.pid] = times.user + times.system
            found[process.pid] = process
    started = time.monotonic()
    time.sleep(_CPU_SECONDS)
    rows: list[Snapshot] = []
    for pid, process in found.items():
        with suppress(psutil.Error), process.oneshot():
            times = process.cpu_times()
            spent = times.user + times.system - before[pid]
            rows.append(
                {
                    "pid": pid,
                    "name": one_line(process.name(), 40),
                    "cpu_percent": round(100 * spent / (time.monotonic() - started)),
                    "rss_bytes": process.memory_info().rss,
                }
            )
    by_cpu = sorted(rows, key=lambda row: -row["cpu_percent"])[:_LISTED]
    by_memory = sorted(rows, key=lambda row: -row["rss_bytes"])[:_LISTED]
    return [row for row in by_cpu if row["cpu_percent"]] + [
        row for row in by_memory if row not in by_cpu or not row["cpu_percent"]
    ]


def _running_jobs() -> list[Snapshot]:
    states = JobState.objects.filter(lease_token__isnull=False).order_by("last_started_at")
    rows = states.values_list("job__name", "lease_host", "last_started_at")[:_JOBS]
    return [
        {"job": name, "host": host, "since": started_at and started_at.isoformat()}
        for name, host, started_at in rows
    ]


_LOCKS = {
    "postgresql": """
        SELECT blocked.pid, blocking.pid, blocking.state, blocking.query,
               EXTRACT(EPOCH FROM clock_timestamp() - blocked.query_start)
        FROM pg_stat_activity AS blocked
        CROSS JOIN LATERAL unnest(pg_blocking_pids(blocked.pid)) AS by(pid)
        JOIN pg_stat_activity AS blocking ON blocking.pid = by.pid
        WHERE blocked.wait_event_type = 'Lock'
        ORDER BY blocked.query_start
        LIMIT 5
    """,
    "mysql": """
        SELECT waiting.trx_mysql_thread_id, holding.trx_mysql_thread_id, holding.trx_state,
               COALESCE(holding.trx_query, ''),
               TIMESTAMPDIFF(SECOND, waiting.trx_wait_started, SYSDATE())
        FROM information_schema.INNODB_LOCK_WAITS AS waits
        JOIN information_schema.INNODB_TRX AS waiting ON waiting.trx_id = waits.requesting_trx_id
        JOIN information_schema.INNODB_TRX AS holding ON holding.trx_id = waits.blocking_trx_id
        ORDER BY waiting.trx_wait_started
        LIMIT 5
    """,
}
"""Who waits for whom. MySQL 8 has other tables: there, nothing is listed."""


def blocking_locks() -> list[Snapshot]:
    """Sessions of the database that wait for a lock, and those that hold it; at most five."""
    connection = database()
    query = _LOCKS.get(connection.vendor)
    if query is None:
        return []
    try:
        with atomic(), connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute(f"SET LOCAL statement_timeout = {_LOCK_TIMEOUT_MS}")
            cursor.execute(query)
            rows = cursor.fetchall()
    except DatabaseError:
        return []  # the user of the site may not read it
    masker = Masker(site_secrets())
    return [
        {
            "waiting": waiting,
            "holding": holding,
            "state": state,
            "query": one_line(masker.mask_text(text or ""), _QUERY_LENGTH),
            "seconds": round(float(seconds or 0), 1),
        }
        for waiting, holding, state, text, seconds in rows
    ]
