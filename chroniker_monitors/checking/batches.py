"""Monitors that are measured together: the batch runner of :mod:`chroniker.batches`.

A tick imports this module, so models and probes are imported only when they are needed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError
from django.utils.timezone import now as utc_now

from chroniker.batches import BatchEnd, BatchItem, ItemResult

if TYPE_CHECKING:
    from chroniker_monitors.models import Probe

    from .histories import StoredHour


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MonitorTask:
    """A monitor to measure."""

    job: int
    probe: Probe | None
    """None: it was deleted after its run had been claimed."""
    stored_hour: StoredHour | None = None
    """None: it does not learn what is usual."""


class MonitorBatch:
    """Measures monitors in workers, and records the samples with the ends of their runs."""

    def load(self, items: Sequence[BatchItem]) -> Sequence[MonitorTask]:
        """Read the probes, and import what their kinds need."""
        from chroniker.masking import keep_secrets
        from chroniker_monitors import probes
        from chroniker_monitors.models import Probe
        from chroniker_monitors.probes.limited_connections import keep_connections

        keep_secrets()
        keep_connections()
        found = Probe.objects.in_bulk([item.job for item in items])
        probes.preload({probe.kind for probe in found.values()})
        learning = {pk for pk, probe in found.items() if probe.thresholds.learns}
        hours: dict[tuple[int, str], StoredHour] = {}
        if learning:
            from .histories import read_stored_hours

            hours = read_stored_hours(
                {(item.job, item.host) for item in items if item.job in learning}
            )
        return [
            MonitorTask(item.job, found.get(item.job), hours.get((item.job, item.host)))
            for item in items
        ]

    def run(self, task: object) -> ItemResult:
        """Measure a monitor. The value of a heartbeat comes from its locked state, when recorded.

        The site's connections stay open for the next monitor, unless something went wrong or the
        kind is not one of ours: it may have changed the session.
        """
        from chroniker.db.connections import close_connections, has_dead_connection
        from chroniker_monitors.checking.recorder import measure_probe
        from chroniker_monitors.probes.registry import SHIPPED

        assert isinstance(task, MonitorTask)
        probe = task.probe
        if probe is None:
            raise CommandError(f"There is no monitor with the primary key {task.job}.")
        if probe.passive:
            return ItemResult({"passive": True})
        at = utc_now()
        measurement = measure_probe(probe)
        if measurement.error and has_dead_connection():
            # The server may have closed it since the last monitor, which is no fault of this one.
            close_connections()
            measurement = measure_probe(probe)
        if measurement.error or probe.kind not in SHIPPED:
            close_connections()
        if task.stored_hour is not None and not measurement.error:
            _learn(task.stored_hour, at)
        return ItemResult(
            {"at": at.isoformat(), "measurement": measurement.dump()},
            CommandError(measurement.error) if measurement.error else None,
        )

    def record(self, ends: Sequence[BatchEnd]) -> None:
        """Write samples, states and incidents."""
        from .joint_recorder import record_ends

        record_ends(ends)


def _learn(stored_hour: StoredHour, now: datetime) -> None:
    """Learn what is usual now; if that fails, it is read when the sample is recorded."""
    from chroniker.db.connections import close_connections

    try:
        stored_hour.refresh(now)
    except (DatabaseError, InterfaceError):
        logger.warning("What is usual could not be read", exc_info=True)
        close_connections()
