"""The metrics as a collector for prometheus_client.

Slower than :mod:`chroniker_monitors.exposition`, whose output is tested against this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as PrometheusExemplar

import chroniker
from chroniker.conf import conf as chroniker_conf
from chroniker_monitors.conf import conf
from chroniker_monitors.enums import MetricsDetail

from .metrics import (
    COLLECTOR_FAMILIES,
    HOST_FAMILIES,
    INCIDENT_FAMILIES,
    LEVELS,
    MONITOR_FAMILIES,
    SAMPLE_FAMILIES,
    MetricFamily,
    MetricsConfig,
)
from .numbers import (
    HOST,
    N_MONITOR,
    NAME,
    Column,
    Exemplar,
    SeriesNumbers,
    fleet_numbers,
    host_numbers,
    job_numbers,
    job_texts,
    monitor_numbers,
    monitor_texts,
    omit_usual,
    placement_exemplars,
    placement_numbers,
    sample_numbers,
    series_numbers,
)
from .rows import Snapshot, take_snapshot


class ChronikerCollector(Collector):
    """All metrics of Chroniker, for your own registry.

    ``/metrics`` does not need it: that page renders the same metrics faster.
    """

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples. Uses neither settings nor the database."""
        return [family.metric() for families in LEVELS.values() for family in families]

    def collect(self) -> Iterator[Metric]:
        """Read the database and return the families with their samples."""
        return metrics(take_snapshot(), current_config())


def current_config() -> MetricsConfig:
    """Return which metrics the site's settings export."""
    bounds = {float(bound) for bound in chroniker_conf.METRICS_DURATION_BUCKETS}
    return MetricsConfig(
        tuple(sorted(bound for bound in bounds if isfinite(bound))),
        bool(conf.METRICS_HISTOGRAMS),
        MetricsDetail(conf.METRICS_DETAIL),
    )


def metrics(snapshot: Snapshot, config: MetricsConfig) -> Iterator[Metric]:
    """Return all families of a snapshot."""
    if snapshot.up:
        yield from _job_metrics(snapshot, config)
        yield from _placement_metrics(snapshot, config)
        yield from _monitor_metrics(snapshot)
        yield from _sample_metrics(snapshot)
    yield from site_metrics(snapshot, config)


def site_metrics(snapshot: Snapshot, config: MetricsConfig) -> Iterator[Metric]:
    """Return the families that are not per job. They are few, so they need no faster renderer."""
    if snapshot.up:
        yield from _host_metrics(snapshot)
        yield from _fleet_metrics(snapshot, config)
        yield from _incident_metrics(snapshot)
    numbers = {
        "one": 1,
        "up": int(snapshot.up),
        "seconds": snapshot.seconds,
        "timeout": conf.METRICS_TIMEOUT_SECONDS,
        "dropped_jobs": snapshot.dropped_jobs,
    }
    for family in COLLECTOR_FAMILIES:
        if family.number == "dropped_jobs" and not snapshot.up:
            continue  # unknown without the database
        metric = family.metric()
        texts = {"version": chroniker.__version__} if family.texts else {}
        metric.add_sample(family.name, texts, numbers[family.number])
        yield metric


def _job_metrics(snapshot: Snapshot, config: MetricsConfig) -> Iterator[Metric]:
    rows = [row for row, _ in snapshot.jobs]
    names = {"job_name": [row[NAME] for row in rows]}
    texts = job_texts(rows)
    families = config.families("job")
    numbers = omit_usual(job_numbers(rows), families)
    for family in families:
        wanted = names | {label: texts[label] for label in family.texts}
        yield _metric(family, config.bounds, wanted, numbers)


def _placement_metrics(snapshot: Snapshot, config: MetricsConfig) -> Iterator[Metric]:
    rows = [row for _, rows in snapshot.jobs for row in rows]
    names = {"job_name": [row[NAME] for row in rows], "host": [row[HOST] for row in rows]}
    numbers = placement_numbers(rows, config, snapshot.zone)
    exemplars = placement_exemplars(rows, config.bounds, snapshot.zone)
    for family in config.families("placement"):
        yield _metric(family, config.bounds, names, numbers, exemplars.get(family.exemplar))


def _monitor_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    rows = [row for row, _ in snapshot.monitors]
    names = {"job_name": [row[NAME] for row in rows]}
    texts = monitor_texts(rows)
    numbers = monitor_numbers(rows)
    for family in MONITOR_FAMILIES:
        wanted = names | {label: texts[label] for label in family.texts}
        yield _metric(family, (), wanted, numbers)


def _sample_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    rows = [row for _, rows in snapshot.monitors for row in rows]
    names = {"job_name": [row[NAME] for row in rows], "host": [row[N_MONITOR] for row in rows]}
    numbers = sample_numbers(rows, snapshot.zone)
    groups = [series_numbers(row) for row in rows]
    for family in SAMPLE_FAMILIES:
        yield _metric(family, (), names, numbers, groups=groups if family.has_series else None)


def _host_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    names = {"host": [row[0] for row in snapshot.hosts]}
    numbers = host_numbers(snapshot.hosts)
    for family in HOST_FAMILIES:
        yield _metric(family, (), names, numbers)


def _fleet_metrics(snapshot: Snapshot, config: MetricsConfig) -> Iterator[Metric]:
    numbers = fleet_numbers([row for _, rows in snapshot.jobs for row in rows], config.bounds)
    for family in config.families("fleet"):
        metric = family.metric()
        for line in family.series(config.bounds):
            metric.add_sample(line.name, dict(line.labels), numbers[line.number])
        yield metric


def _incident_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    for family in INCIDENT_FAMILIES:
        metric = family.metric()
        for line in family.series(()):
            metric.add_sample(
                line.name, dict(line.labels), snapshot.alert_counts.get(line.number, 0)
            )
        yield metric


def _metric(
    family: MetricFamily,
    bounds: Sequence[float],
    texts: Mapping[str, Sequence[str]],
    numbers: Mapping[str, Column],
    exemplars: Sequence[Exemplar | None] | None = None,
    groups: Sequence[Sequence[SeriesNumbers]] | None = None,
) -> Metric:
    """Return a family with its samples, row by row. An empty host is not exported as a label.

    ``groups``: of each row, the groups that have samples of their own after the one of the row.
    """
    metric = family.metric()
    for row, values in enumerate(zip(*texts.values(), strict=True)):
        labels = {
            name: text for name, text in zip(texts, values, strict=True) if name != "host" or text
        }
        exemplar = exemplars[row] if exemplars else None
        for line, series in enumerate(family.series(bounds)):
            number = numbers[series.number][row]
            if number is not None:
                shown = exemplar if exemplar and exemplar.line == line else None
                metric.add_sample(
                    series.name,
                    labels | dict(series.labels),
                    number,
                    exemplar=_convert_exemplar(shown),
                )
        for group in groups[row] if groups else ():
            number = group.numbers[family.number]
            if number is not None:
                metric.add_sample(family.name, labels | {"series": group.series}, number)
    return metric


def _convert_exemplar(exemplar: Exemplar | None) -> PrometheusExemplar | None:
    if exemplar is None:
        return None
    labels = {"run_id": str(exemplar.run_id)}
    if exemplar.trace_id:
        labels["trace_id"] = exemplar.trace_id
    return PrometheusExemplar(labels, exemplar.value, exemplar.at)
