"""Render snapshots as text, fast.

The format requires the lines of a family to be together, and a job has lines in every family. So
for each job and each placement, one piece of text per family is cached. A row that has not
changed since the last scrape reuses its pieces; changed rows are written column by column; the
page is joined from the pieces.

The output equals prometheus_client's byte for byte; a property test compares them. A snapshot
contains no negative zero, which would be written as zero.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TypeVar

from chroniker_monitors.collector.gc_pause import gc_paused
from chroniker_monitors.collector.metrics import (
    JOB_FAMILIES,
    MONITOR_FAMILIES,
    SAMPLE_FAMILIES,
    MetricFamily,
    MetricsConfig,
)
from chroniker_monitors.collector.numbers import (
    HOST,
    N_MONITOR,
    NAME,
    Numbers,
    Row,
    job_numbers,
    job_texts,
    monitor_numbers,
    monitor_texts,
    placement_exemplars,
    placement_numbers,
    sample_numbers,
)
from chroniker_monitors.collector.rows import Snapshot

from .formats import Format
from .writer import FamilyWriter, escape_all, format_column

K = TypeVar("K")

Pieces = tuple[bytes, ...]
"""The text of one row: the pieces of each family's writer, in order."""
CachedRow = tuple[Row, Pieces]
PlacementKey = tuple[int, str]
"""Job and host."""

BATCH_SIZE = 250
"""Rows written at once: few enough for their columns to stay in the CPU cache."""


class Renderer:
    """Renders the families of jobs and monitors, for one configuration. Keeps the cache."""

    def __init__(self, config: MetricsConfig) -> None:
        self._config = config
        self._job_writers = _writers(JOB_FAMILIES, config)
        self._placement_writers = _writers(config.placement_families, config)
        self._monitor_writers = _writers(MONITOR_FAMILIES, config)
        self._sample_writers = _writers(SAMPLE_FAMILIES, config)
        self._lock = threading.Lock()
        self._jobs: dict[int, CachedRow] = {}
        self._placements: dict[PlacementKey, CachedRow] = {}
        self._monitors: dict[int, CachedRow] = {}
        self._samples: dict[PlacementKey, CachedRow] = {}

    def __call__(self, snapshot: Snapshot, form: Format) -> list[bytes]:
        """Return the text in pieces, to be joined.

        One scrape at a time, so that the next one finds the pieces of this one in the cache. Rows
        that no longer exist are removed from the cache.
        """
        jobs = {job[0]: job for job, _ in snapshot.jobs}
        placements = {(row[0], row[HOST]): row for _, rows in snapshot.jobs for row in rows}
        monitors = {monitor[0]: monitor for monitor, _ in snapshot.monitors}
        samples = {(row[0], row[N_MONITOR]): row for _, rows in snapshot.monitors for row in rows}
        with self._lock, gc_paused():
            self._jobs = _refresh_cache(self._jobs, jobs, self._write_jobs)
            self._placements = _refresh_cache(
                self._placements, placements, lambda rows: self._write_placements(rows, snapshot)
            )
            self._monitors = _refresh_cache(self._monitors, monitors, self._write_monitors)
            self._samples = _refresh_cache(
                self._samples, samples, lambda rows: self._write_samples(rows, snapshot)
            )
            cached = (
                (self._job_writers, self._jobs),
                (self._placement_writers, self._placements),
                (self._monitor_writers, self._monitors),
                (self._sample_writers, self._samples),
            )
        return [
            piece
            for writers, rows in cached
            for piece in _by_family(writers, [pieces for _, pieces in rows.values()], form)
        ]

    def _write_jobs(self, rows: Sequence[Row]) -> Iterable[Pieces]:
        return _write_definitions(self._job_writers, rows, job_texts(rows), job_numbers(rows))

    def _write_monitors(self, rows: Sequence[Row]) -> Iterable[Pieces]:
        return _write_definitions(
            self._monitor_writers, rows, monitor_texts(rows), monitor_numbers(rows)
        )

    def _write_samples(self, rows: Sequence[Row], snapshot: Snapshot) -> Iterable[Pieces]:
        numbers = sample_numbers(rows, snapshot.zone)
        cells = {name: format_column(column) for name, column in numbers.items()}
        labels = {"common": _placement_labels(rows, N_MONITOR)}
        return _by_row(writer(labels, cells) for writer in self._sample_writers)

    def _write_placements(self, rows: Sequence[Row], snapshot: Snapshot) -> Iterable[Pieces]:
        bounds, histograms = self._config
        numbers = placement_numbers(rows, bounds, histograms, snapshot.zone)
        cells = {name: format_column(column) for name, column in numbers.items()}
        exemplars = placement_exemplars(rows, bounds, snapshot.zone)
        labels = {"common": _placement_labels(rows, HOST)}
        return _by_row(
            writer(labels, cells, exemplars.get(writer.family.exemplar))
            for writer in self._placement_writers
        )


def _write_definitions(
    writers: Iterable[FamilyWriter],
    rows: Sequence[Row],
    texts: Mapping[str, Sequence[str]],
    numbers: Numbers,
) -> Iterable[Pieces]:
    labels: dict[str, Sequence[bytes]] = {"common": _job_labels(rows)}
    labels |= {name: escape_all(column) for name, column in texts.items()}
    cells = {name: format_column(column) for name, column in numbers.items()}
    return _by_row(writer(labels, cells) for writer in writers)


def _writers(families: Iterable[MetricFamily], config: MetricsConfig) -> list[FamilyWriter]:
    return [FamilyWriter(family, config.bounds) for family in families]


def _refresh_cache(
    cached: dict[K, CachedRow],
    rows: dict[K, Row],
    write: Callable[[Sequence[Row]], Iterable[Pieces]],
) -> dict[K, CachedRow]:
    """Return the cache for exactly these rows. Rows that changed are written again."""
    nothing = (None, None)
    changed = {key: row for key, row in rows.items() if cached.get(key, nothing)[0] != row}
    if not changed:
        return {key: cached[key] for key in rows}
    wanted = list(changed.values())
    pieces = chain.from_iterable(
        write(wanted[start : start + BATCH_SIZE]) for start in range(0, len(wanted), BATCH_SIZE)
    )
    fresh = {key: (row, piece) for (key, row), piece in zip(changed.items(), pieces, strict=True)}
    return {key: fresh.get(key) or cached[key] for key in rows}


def _by_row(columns: Iterable[Sequence[Sequence[bytes]]]) -> Iterable[Pieces]:
    return zip(*chain.from_iterable(columns), strict=True)


def _by_family(
    writers: Sequence[FamilyWriter], rows: Sequence[Pieces], form: Format
) -> Iterator[bytes]:
    """Turn rows of pieces into families of pieces, each after its header."""
    columns = iter(list(zip(*rows, strict=True)))
    for writer in writers:
        yield form.header(writer.family)
        if not rows:
            continue
        elif not writer.family.exemplar:
            yield from next(columns)
        else:
            head, exemplar, tail = next(columns), next(columns), next(columns)
            shown = (head, exemplar, tail) if form.openmetrics else (head, tail)
            yield from chain.from_iterable(zip(*shown, strict=True))


def _job_labels(rows: Sequence[Row]) -> list[bytes]:
    """Return the common labels of each row of a definition."""
    return [b'job_name="%b"' % name for name in escape_all([row[NAME] for row in rows])]


def _placement_labels(rows: Sequence[Row], host: int) -> list[bytes]:
    """Return the common labels of each row of a placement: host, if there is one, and job name."""
    hosts = escape_all([row[host] for row in rows])
    return [
        b'host="%b",%b' % (name, job) if name else job
        for name, job in zip(hosts, _job_labels(rows), strict=True)
    ]
