"""Monitors that are measured together: the batch runner of :mod:`chroniker.batches`.

A tick imports this module, so models and probes are imported only when they are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.core.management.base import CommandError
from django.utils.timezone import now as utc_now

from chroniker.batches import BatchEnd, BatchItem, ItemResult

if TYPE_CHECKING:
    from chroniker_monitors.models import Probe


@dataclass(frozen=True, slots=True)
class MonitorTask:
    """A monitor to measure."""

    job: int
    probe: Probe | None
    """None: it was deleted after its run had been claimed."""


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
        return [MonitorTask(item.job, found.get(item.job)) for item in items]

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
        return ItemResult(
            {"at": at.isoformat(), "measurement": measurement.dump()},
            CommandError(measurement.error) if measurement.error else None,
        )

    def record(self, ends: Sequence[BatchEnd]) -> None:
        """Write samples, states and incidents."""
        from .joint_recorder import record_ends

        record_ends(ends)
