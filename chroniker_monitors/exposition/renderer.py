"""Render snapshots as text, fast and in little memory.

The format requires the lines of a family to be together, and a job has lines in every family. So
the rows are divided into buckets of neighbouring jobs, and the text of a bucket in one family is
one piece. A bucket in which no row has changed since the last scrape reuses its pieces; the others
are written column by column; the page is joined from the pieces.

Small pieces would be written again less often, but each costs 41 bytes of its own: with one piece
for each row and family, the cache was three times as large as the page. Of the rows, only a hash is
kept. After ten minutes without a scrape, the cache is dropped.

The output equals prometheus_client's byte for byte; a property test compares them. A snapshot
contains no negative zero, which would be written as zero.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, groupby

from chroniker_monitors.collector.gc_pause import gc_paused
from chroniker_monitors.collector.metrics import MetricFamily, MetricsConfig
from chroniker_monitors.collector.numbers import (
    HOST,
    N_MONITOR,
    NAME,
    Numbers,
    Row,
    SeriesNumbers,
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
from chroniker_monitors.collector.rows import Snapshot

from .formats import Format
from .writer import FamilyWriter, escape, escape_all, format_column, format_number

Pieces = tuple[bytes, ...]
"""The text of a bucket in one family. With exemplars, every second piece is one."""
Columns = Sequence[Sequence[Sequence[bytes]]]
"""For each family, the columns that its writer returned."""

BUCKET_SIZE = 16
"""Jobs whose text is one piece."""
BATCH_SIZE = 250
"""Rows written at once: few enough for their columns to stay in the CPU cache."""
KEPT_SECONDS = 600.0
"""How long the cache is kept after the last scrape."""


class _Cache:
    """The text of the rows of one level, and a hash of the rows that it was written from."""

    def __init__(
        self,
        families: Sequence[MetricFamily],
        config: MetricsConfig,
        digest: Callable[[tuple[Row, ...]], int],
    ) -> None:
        self.writers = [FamilyWriter(family, config.bounds) for family in families]
        self._digest = digest
        self._buckets: dict[int, tuple[int, list[Pieces]]] = {}

    def refresh(self, rows: Sequence[Row], write: Callable[[Sequence[Row]], Columns]) -> None:
        """Hold the text of exactly these rows, which are sorted. Write what has changed."""
        wanted = {key: tuple(group) for key, group in groupby(rows, _bucket)}
        for key in self._buckets.keys() - wanted.keys():
            del self._buckets[key]
        batch: list[tuple[int, int, tuple[Row, ...]]] = []
        size = 0
        for key, bucket in wanted.items():
            digest = self._digest(bucket)
            if self._buckets.get(key, (None,))[0] != digest:
                batch.append((key, digest, bucket))
                size += len(bucket)
            if size >= BATCH_SIZE:
                self._write(batch, write)
                batch, size = [], 0
        if batch:
            self._write(batch, write)

    def _write(
        self,
        batch: Sequence[tuple[int, int, tuple[Row, ...]]],
        write: Callable[[Sequence[Row]], Columns],
    ) -> None:
        families = write([row for _, _, bucket in batch for row in bucket])
        start = 0
        for key, digest, bucket in batch:
            end = start + len(bucket)
            self._buckets[key] = digest, [_join(columns, start, end) for columns in families]
            start = end

    def text(self, form: Format) -> Iterator[bytes]:
        """Return the pieces of the page, family by family, each after its header."""
        buckets = [self._buckets[key][1] for key in sorted(self._buckets)]
        for number, writer in enumerate(self.writers):
            yield form.header(writer.family)
            step = 1 if form.openmetrics else 2
            for pieces in buckets:
                yield from pieces[number][::step]

    def clear(self) -> None:
        self._buckets.clear()


def _bucket(row: Row) -> int:
    key: int = row[0]
    return key // BUCKET_SIZE


def _join(columns: Sequence[Sequence[bytes]], start: int, end: int) -> Pieces:
    if len(columns) == 1:
        return (b"".join(columns[0][start:end]),)
    pieces: list[bytes] = []
    text: list[bytes] = []
    for head, exemplar, tail in zip(*(column[start:end] for column in columns), strict=True):
        text.append(head)
        if exemplar:
            pieces += [b"".join(text), exemplar]
            text = []
        text.append(tail)
    return (*pieces, b"".join(text))


def _hash_of_text(rows: tuple[Row, ...]) -> int:
    """Hash rows whose numbers may be negative: Python's hashes of -1 and -2 are equal."""
    return hash(repr(rows))


class Renderer:
    """Renders the families of jobs and monitors, for one configuration. Keeps the cache."""

    def __init__(self, config: MetricsConfig) -> None:
        self._config = config
        self._jobs = _Cache(config.families("job"), config, hash)
        self._placements = _Cache(config.families("placement"), config, hash)
        self._monitors = _Cache(config.families("monitor"), config, _hash_of_text)
        self._samples = _Cache(config.families("sample"), config, _hash_of_text)
        self._lock = threading.Lock()
        self._used_at = 0.0
        self._timer: threading.Timer | None = None

    def __call__(self, snapshot: Snapshot, form: Format) -> list[bytes]:
        """Return the text in pieces, to be joined.

        One scrape at a time, so that the next one finds the pieces of this one in the cache. Rows
        that no longer exist are removed from the cache.
        """
        jobs = [job for job, _ in snapshot.jobs]
        placements = [row for _, rows in snapshot.jobs for row in rows]
        monitors = [monitor for monitor, _ in snapshot.monitors]
        samples = [row for _, rows in snapshot.monitors for row in rows]
        with self._lock, gc_paused():
            self._jobs.refresh(jobs, self._write_jobs)
            self._placements.refresh(
                placements, lambda rows: self._write_placements(rows, snapshot)
            )
            self._monitors.refresh(monitors, self._write_monitors)
            self._samples.refresh(samples, lambda rows: self._write_samples(rows, snapshot))
            self._used_at = time.monotonic()
            self._expire_later(KEPT_SECONDS)
            return list(chain.from_iterable(cache.text(form) for cache in self._caches()))

    def _caches(self) -> tuple[_Cache, ...]:
        return self._jobs, self._placements, self._monitors, self._samples

    def _expire_later(self, seconds: float) -> None:
        """Look after this time whether the cache was used since. One thread waits, if any."""
        if self._timer is None or not self._timer.is_alive():
            self._timer = threading.Timer(seconds, self._expire)
            self._timer.daemon = True
            self._timer.name = "chroniker-metrics-cache"
            self._timer.start()

    def _expire(self) -> None:
        with self._lock:
            self._timer = None
            left = self._used_at + KEPT_SECONDS - time.monotonic()
            if left > 0:
                self._expire_later(left)
            else:
                for cache in self._caches():
                    cache.clear()

    def _write_jobs(self, rows: Sequence[Row]) -> Columns:
        numbers = omit_usual(job_numbers(rows), self._config.families("job"))
        return _write_definitions(self._jobs.writers, rows, job_texts(rows), numbers)

    def _write_monitors(self, rows: Sequence[Row]) -> Columns:
        return _write_definitions(
            self._monitors.writers, rows, monitor_texts(rows), monitor_numbers(rows)
        )

    def _write_samples(self, rows: Sequence[Row], snapshot: Snapshot) -> Columns:
        numbers = sample_numbers(rows, snapshot.zone)
        cells = {name: format_column(column) for name, column in numbers.items()}
        common = _placement_labels(rows, N_MONITOR)
        writers = self._samples.writers
        columns = [writer({"common": common}, cells) for writer in writers]
        groups = [series_numbers(row) for row in rows]
        if any(groups):
            return [
                _add_series(writer.family, column, common, groups)
                for writer, column in zip(writers, columns, strict=True)
            ]
        return columns

    def _write_placements(self, rows: Sequence[Row], snapshot: Snapshot) -> Columns:
        numbers = placement_numbers(rows, self._config, snapshot.zone)
        cells = {name: format_column(column) for name, column in numbers.items()}
        exemplars = placement_exemplars(rows, self._config.bounds, snapshot.zone)
        labels = {"common": _placement_labels(rows, HOST)}
        return [
            writer(labels, cells, exemplars.get(writer.family.exemplar))
            for writer in self._placements.writers
        ]


def _write_definitions(
    writers: Sequence[FamilyWriter],
    rows: Sequence[Row],
    texts: Mapping[str, Sequence[str]],
    numbers: Numbers,
) -> Columns:
    labels: dict[str, Sequence[bytes]] = {"common": _job_labels(rows)}
    labels |= {name: escape_all(column) for name, column in texts.items()}
    cells = {name: format_column(column) for name, column in numbers.items()}
    return [writer(labels, cells) for writer in writers]


def _add_series(
    family: MetricFamily,
    columns: Sequence[Sequence[bytes]],
    labels: Sequence[bytes],
    groups: Sequence[Sequence[SeriesNumbers]],
) -> Sequence[Sequence[bytes]]:
    """Add the lines of its groups to the line of each row."""
    if not family.has_series:
        return columns
    name, key = family.name.encode(), family.number
    return [
        [
            piece
            + b"".join(
                b'%b{%b,series="%b"} %b\n'
                % (name, common, escape(group.series).encode(), format_number(number))
                for group in own
                if (number := group.numbers[key]) is not None
            )
            for piece, common, own in zip(column, labels, groups, strict=True)
        ]
        for column in columns
    ]


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
