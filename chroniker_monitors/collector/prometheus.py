"""The families as a collector for prometheus_client: the slow way, and the oracle of the fast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import chroniker
from chroniker.conf import conf as chroniker_conf
from chroniker_monitors.conf import conf

from .families import (
    COLLECTOR_FAMILIES,
    HOST_FAMILIES,
    JOB_FAMILIES,
    LEVELS,
    Contract,
    Family,
)
from .numbers import HOST, NAME, host_numbers, job_numbers, job_texts, slot_numbers
from .rows import Snapshot, take_snapshot


class ChronikerCollector(Collector):
    """Every metric of Chroniker, for a registry of your own.

    The page at ``/metrics`` has them without it, and faster.
    """

    def describe(self) -> Iterable[Metric]:
        """The families without samples; touches neither settings nor the database."""
        return [family.metric() for families in LEVELS.values() for family in families]

    def collect(self) -> Iterator[Metric]:
        """The families with what the database has now."""
        return metrics(take_snapshot(), current_contract())


def current_contract() -> Contract:
    """What the site's settings put on the page."""
    bounds = {float(bound) for bound in chroniker_conf.METRICS_DURATION_BUCKETS}
    return Contract(
        tuple(sorted(bound for bound in bounds if isfinite(bound))),
        bool(conf.METRICS_HISTOGRAMS),
    )


def metrics(snapshot: Snapshot, contract: Contract) -> Iterator[Metric]:
    """The families of a snapshot."""
    if snapshot.up:
        yield from _job_metrics(snapshot, contract)
        yield from _slot_metrics(snapshot, contract)
    yield from other_metrics(snapshot)


def other_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    """Those that are not per job: they are few, and need no faster way."""
    if snapshot.up:
        yield from _host_metrics(snapshot)
    numbers = {
        "one": 1,
        "up": int(snapshot.up),
        "seconds": snapshot.seconds,
        "dropped_jobs": snapshot.dropped_jobs,
    }
    for family in COLLECTOR_FAMILIES:
        if family.number == "dropped_jobs" and not snapshot.up:
            continue  # nobody knows
        metric = family.metric()
        texts = {"version": chroniker.__version__} if family.texts else {}
        _add(metric, family, (), texts, numbers)
        yield metric


def _job_metrics(snapshot: Snapshot, contract: Contract) -> Iterator[Metric]:
    jobs = [
        ({"job_name": row[NAME]} | job_texts(row), job_numbers(row)) for row, _ in snapshot.jobs
    ]
    for family in JOB_FAMILIES:
        metric = family.metric()
        for texts, numbers in jobs:
            wanted = {label: texts[label] for label in ("job_name", *family.texts)}
            _add(metric, family, contract.bounds, wanted, numbers)
        yield metric


def _slot_metrics(snapshot: Snapshot, contract: Contract) -> Iterator[Metric]:
    slots = [
        (
            {"job_name": row[NAME]} | ({"host": row[HOST]} if row[HOST] else {}),
            slot_numbers(row, contract.bounds, contract.histograms),
        )
        for row in snapshot.decode([row for _, rows in snapshot.jobs for row in rows])
    ]
    for family in contract.slot_families:
        metric = family.metric()
        for texts, numbers in slots:
            _add(metric, family, contract.bounds, texts, numbers)
        yield metric


def _host_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    hosts = [({"host": row[0]}, host_numbers(row)) for row in snapshot.hosts]
    for family in HOST_FAMILIES:
        metric = family.metric()
        for texts, numbers in hosts:
            _add(metric, family, (), texts, numbers)
        yield metric


def _add(
    metric: Metric,
    family: Family,
    bounds: Sequence[float],
    texts: dict[str, str],
    numbers: Mapping[str, float | None],
) -> None:
    for series in family.series(bounds):
        number = numbers[series.number]
        if number is not None:
            metric.add_sample(series.name, texts | dict(series.labels), number)
