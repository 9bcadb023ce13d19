"""Snapshots as text, fast.

The lines of a family must stand together, and a job has lines in every family; so each job, and
each of its host slots, is kept as one piece of text per family. A row that is what it was at the
last scrape gives the pieces of then, and the page is joined from pieces. The rows that changed
are written column by column.

The text is prometheus_client's to the byte; a property test holds both against each other. No
number of a snapshot is a negative zero, which would be written as zero.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from chroniker_monitors.collector.families import (
    JOB_FAMILIES,
    MONITOR_FAMILIES,
    SAMPLE_FAMILIES,
    Contract,
    Family,
)
from chroniker_monitors.collector.garbage import nothing_collected
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
    sample_numbers,
    slot_exemplars,
    slot_numbers,
)
from chroniker_monitors.collector.rows import Snapshot

from .formats import Format
from .writing import FamilyWriter, escaped, spelled

Pieces = tuple[bytes, ...]
"""The lines of one row: what the writer of each family made of it, one after the other."""
Known = dict[Any, tuple[Row, Pieces]]

ROWS_AT_ONCE = 250
"""So few that their columns stay in the processor's cache."""


class Renderer:
    """The text of the jobs' families, for one contract."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._job_writers = _writers(JOB_FAMILIES, contract)
        self._slot_writers = _writers(contract.slot_families, contract)
        self._monitor_writers = _writers(MONITOR_FAMILIES, contract)
        self._sample_writers = _writers(SAMPLE_FAMILIES, contract)
        self._lock = threading.Lock()
        self._jobs: Known = {}
        self._slots: Known = {}
        self._monitors: Known = {}
        self._samples: Known = {}

    def __call__(self, snapshot: Snapshot, form: Format) -> list[bytes]:
        """The text in pieces, to be joined.

        One scrape at a time: the next one finds the pieces that this one leaves. Rows that are
        no longer there leave nothing.
        """
        jobs = {job[0]: job for job, _ in snapshot.jobs}
        slots = {(row[0], row[HOST]): row for _, rows in snapshot.jobs for row in rows}
        monitors = {monitor[0]: monitor for monitor, _ in snapshot.monitors}
        samples = {(row[0], row[N_MONITOR]): row for _, rows in snapshot.monitors for row in rows}
        with self._lock, nothing_collected():
            self._jobs = _renewed(self._jobs, jobs, self._write_jobs)
            self._slots = _renewed(
                self._slots, slots, lambda rows: self._write_slots(rows, snapshot)
            )
            self._monitors = _renewed(self._monitors, monitors, self._write_monitors)
            self._samples = _renewed(
                self._samples, samples, lambda rows: self._write_samples(rows, snapshot)
            )
            known = (
                (self._job_writers, self._jobs),
                (self._slot_writers, self._slots),
                (self._monitor_writers, self._monitors),
                (self._sample_writers, self._samples),
            )
        return [
            piece
            for writers, rows in known
            for piece in _by_family(writers, [pieces for _, pieces in rows.values()], form)
        ]

    def _write_jobs(self, rows: Sequence[Row]) -> Iterable[Pieces]:
        return _defined(self._job_writers, rows, job_texts(rows), job_numbers(rows))

    def _write_monitors(self, rows: Sequence[Row]) -> Iterable[Pieces]:
        return _defined(self._monitor_writers, rows, monitor_texts(rows), monitor_numbers(rows))

    def _write_samples(self, rows: Sequence[Row], snapshot: Snapshot) -> Iterable[Pieces]:
        numbers = sample_numbers(rows, snapshot.zone)
        cells = {name: spelled(column) for name, column in numbers.items()}
        labels = {"who": _slot_labels(rows, N_MONITOR)}
        return _by_row(writer(labels, cells) for writer in self._sample_writers)

    def _write_slots(self, rows: Sequence[Row], snapshot: Snapshot) -> Iterable[Pieces]:
        bounds, histograms = self._contract
        numbers = slot_numbers(rows, bounds, histograms, snapshot.zone)
        cells = {name: spelled(column) for name, column in numbers.items()}
        exemplars = slot_exemplars(rows, bounds, snapshot.zone)
        labels = {"who": _slot_labels(rows, HOST)}
        return _by_row(
            writer(labels, cells, exemplars.get(writer.family.exemplar))
            for writer in self._slot_writers
        )


def _defined(
    writers: Iterable[FamilyWriter],
    rows: Sequence[Row],
    texts: Mapping[str, Sequence[str]],
    numbers: Numbers,
) -> Iterable[Pieces]:
    labels: dict[str, Sequence[bytes]] = {"who": _job_labels(rows)}
    labels |= {name: escaped(column) for name, column in texts.items()}
    cells = {name: spelled(column) for name, column in numbers.items()}
    return _by_row(writer(labels, cells) for writer in writers)


def _writers(families: Iterable[Family], contract: Contract) -> list[FamilyWriter]:
    return [FamilyWriter(family, contract.bounds) for family in families]


def _renewed(
    known: Known, rows: dict[Any, Row], write: Callable[[Sequence[Row]], Iterable[Pieces]]
) -> Known:
    """What is known, of these rows only; written anew where a row is not what it was."""
    nothing = (None, None)
    changed = {key: row for key, row in rows.items() if known.get(key, nothing)[0] != row}
    if not changed:
        return {key: known[key] for key in rows}
    wanted = list(changed.values())
    pieces = chain.from_iterable(
        write(wanted[start : start + ROWS_AT_ONCE]) for start in range(0, len(wanted), ROWS_AT_ONCE)
    )
    renewed = {key: (row, piece) for (key, row), piece in zip(changed.items(), pieces, strict=True)}
    return {key: renewed.get(key) or known[key] for key in rows}


def _by_row(columns: Iterable[Sequence[Sequence[bytes]]]) -> Iterable[Pieces]:
    return zip(*chain.from_iterable(columns), strict=True)


def _by_family(
    writers: Sequence[FamilyWriter], rows: Sequence[Pieces], form: Format
) -> Iterator[bytes]:
    """Rows of pieces turned into families of pieces, each after its header."""
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
    """The labels of every line of a row."""
    return [b'job_name="%b"' % name for name in escaped([row[NAME] for row in rows])]


def _slot_labels(rows: Sequence[Row], host: int) -> list[bytes]:
    """The same with the host, where there is one. The order is the alphabet's."""
    hosts = escaped([row[host] for row in rows])
    return [
        b'host="%b",%b' % (name, job) if name else job
        for name, job in zip(hosts, _job_labels(rows), strict=True)
    ]
