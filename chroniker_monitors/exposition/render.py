"""Snapshots as text, fast.

The lines of a family must stand together, and a job has lines in every family; so each job, and
each of its host slots, is kept as one piece of text per family. A row that is what it was at the
last scrape gives the pieces of then, and the page is joined from pieces.

The text is prometheus_client's to the byte; a property test holds both against each other. No
number of a snapshot is a negative zero, which would be written as zero.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from chroniker_monitors.collector.families import JOB_FAMILIES, Contract, Family, go_number
from chroniker_monitors.collector.numbers import (
    HOST,
    NAME,
    Row,
    job_numbers,
    job_texts,
    slot_numbers,
)
from chroniker_monitors.collector.rows import Snapshot

from .formats import Format

Pieces = list[bytes]
"""The lines of one row, a piece for each family, without the last newline; or nothing."""

_SMALL: dict[float, str] = {number: f"{number}.0" for number in range(1024)}


class Renderer:
    """The text of the jobs' families, for one contract."""

    def __init__(self, contract: Contract) -> None:
        self._families = (JOB_FAMILIES, contract.slot_families)
        self._contract = contract
        self._write_job = _Writer(JOB_FAMILIES, contract.bounds)
        self._write_slot = _Writer(contract.slot_families, contract.bounds)
        self._lock = threading.Lock()
        self._jobs: dict[Any, tuple[Row, Pieces]] = {}
        self._slots: dict[Any, tuple[Row, Pieces]] = {}

    def __call__(self, snapshot: Snapshot, form: Format) -> list[bytes]:
        """The text in pieces, to be joined with newlines.

        One scrape at a time: the next one finds the pieces that this one leaves. Rows that are
        no longer there leave nothing.
        """
        jobs = {job[0]: job for job, _ in snapshot.jobs}
        slots = {(row[0], row[HOST]): row for _, rows in snapshot.jobs for row in rows}
        with self._lock:
            self._jobs = _renewed(self._jobs, jobs, self._job_pieces)
            self._slots = _renewed(self._slots, slots, self._slot_pieces, snapshot.decode)
            levels = zip(self._families, (self._jobs, self._slots), strict=True)
        return [
            piece
            for families, known in levels
            for piece in _by_family(families, (pieces for _, pieces in known.values()), form)
        ]

    def _job_pieces(self, row: Row) -> Pieces:
        return self._write_job(_who(row[NAME]), job_texts(row), job_numbers(row))

    def _slot_pieces(self, row: Row) -> Pieces:
        numbers = slot_numbers(row, self._contract.bounds, self._contract.histograms)
        return self._write_slot(_who(row[NAME], row[HOST]), {}, numbers)


def _renewed(
    known: dict[Any, tuple[Row, Pieces]],
    rows: dict[Any, Row],
    write: Callable[[Row], Pieces],
    decode: Callable[[Iterable[Row]], Iterable[Row]] = iter,
) -> dict[Any, tuple[Row, Pieces]]:
    """What is known, of these rows only; written anew where a row is not what it was."""
    nothing = (None, None)
    changed = {key: row for key, row in rows.items() if known.get(key, nothing)[0] != row}
    pieces = map(write, decode(changed.values()))
    renewed = {key: (row, piece) for (key, row), piece in zip(changed.items(), pieces, strict=True)}
    return {key: renewed.get(key) or known[key] for key in rows}


def _by_family(families: Sequence[Family], rows: Iterable[Pieces], form: Format) -> Iterator[bytes]:
    """Rows of pieces turned into families of pieces, each after its header."""
    columns = list(zip(*rows, strict=True)) or [()] * len(families)
    for family, column in zip(families, columns, strict=True):
        yield form.header(family)
        yield from filter(None, column) if family.optional else column


def _who(name: str, host: str = "") -> str:
    """The labels of every line of a row."""
    label = f'job_name="{escape(name)}"'
    return f'host="{escape(host)}",{label}' if host else label


def escape(text: str) -> str:
    """A label's value between its quotes."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class _Writer:
    """Writes the pieces of one row.

    All families at once: they are set apart by an empty line, which no escaped text has.
    """

    def __init__(self, families: Sequence[Family], bounds: Sequence[float]) -> None:
        named = "\n\n".join(_lines(family, bounds) for family in families)
        self._cells = itemgetter(*re.findall(r"%\((.+?)\)s", named))
        # By position, because a template filled by name takes twice as long.
        self._template = re.sub(r"%\(.+?\)s", "%s", named)
        self._optional = [
            (index, family.number) for index, family in enumerate(families) if family.optional
        ]

    def __call__(
        self, who: str, texts: Mapping[str, str], numbers: Mapping[str, float | None]
    ) -> Pieces:
        """``who``: the labels that all lines have, escaped; ``texts``: those of some."""
        cells = {name: _SMALL.get(n) or _number(n) for name, n in numbers.items()}  # type: ignore[arg-type]
        cells["who"] = who
        cells |= {label: escape(text) for label, text in texts.items()}
        text: str = self._template % self._cells(cells)
        pieces = text.encode().split(b"\n\n")
        for index, name in self._optional:
            if numbers[name] is None:
                pieces[index] = b""
        return pieces


def _number(number: float | None) -> str:
    """As Go writes it: for the many whole ones, without asking Go's rules."""
    if type(number) is int and 0 <= number < 1_000_000:
        return f"{number}.0"
    return "" if number is None else go_number(number)


def _lines(family: Family, bounds: Sequence[float]) -> str:
    """The lines of a family for one row, with places for what the row has."""
    return "\n".join(
        f"{series.name}{{{_labels(family, dict(series.labels))}}} %({series.number})s"
        for series in family.series(bounds)
    )


def _labels(family: Family, fixed: Mapping[str, str]) -> str:
    """All labels, sorted. ``who`` may be two, host and job_name: no other sorts between them."""
    values = {label: f'{label}="%({label})s"' for label in family.texts}
    values |= {label: f'{label}="{escape(value)}"' for label, value in fixed.items()}
    values["job_name"] = "%(who)s"
    return ",".join(values[label] for label in sorted(values))
