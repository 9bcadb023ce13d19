"""Snapshots as text, fast.

The lines of a family must stand together, and a job has lines in every family; so each job, and
each of its host slots, is kept as one piece of text per family. A row that is what it was at the
last scrape gives the pieces of then, and the page is joined from pieces.

The text is prometheus_client's to the byte; a property test holds both against each other. No
number of a snapshot is a negative zero, which would be written as zero.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

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

Pieces = tuple[bytes, ...]
"""The lines of one row, a piece for each family."""

_SMALL: dict[float, str] = {number: f"{number}.0" for number in range(1024)}


def escape(text: str) -> str:
    """A label's value between its quotes."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Renderer:
    """The text of the jobs' families, for one contract."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._write_job = _Writer(JOB_FAMILIES, contract.bounds)
        self._write_slot = _Writer(contract.slot_families, contract.bounds)
        self._lock = threading.Lock()
        self._jobs: dict[int, tuple[Row, Pieces]] = {}
        self._slots: dict[tuple[int, str], tuple[Row, Pieces]] = {}

    def __call__(self, snapshot: Snapshot, form: Format) -> list[bytes]:
        """The text in pieces that are still to be joined.

        One scrape at a time: the next one finds the pieces that this one leaves. Rows that are
        no longer there leave nothing.
        """
        with self._lock:
            jobs: dict[int, tuple[Row, Pieces]] = {}
            slots: dict[tuple[int, str], tuple[Row, Pieces]] = {}
            for job, rows in snapshot.jobs:
                known = self._jobs.get(job[0])
                jobs[job[0]] = known if known and known[0] == job else (job, self._job_pieces(job))
                for row in rows:
                    key = (job[0], row[HOST])
                    seen = self._slots.get(key)
                    slots[key] = seen if seen and seen[0] == row else (row, self._slot_pieces(row))
            self._jobs, self._slots = jobs, slots
        return [
            *_by_family(JOB_FAMILIES, (pieces for _, pieces in jobs.values()), form),
            *_by_family(
                self.contract.slot_families, (pieces for _, pieces in slots.values()), form
            ),
        ]

    def _job_pieces(self, row: Row) -> Pieces:
        return self._write_job(_who(row[NAME]), job_texts(row), job_numbers(row))

    def _slot_pieces(self, row: Row) -> Pieces:
        numbers = slot_numbers(row, self.contract.bounds, self.contract.histograms)
        return self._write_slot(_who(row[NAME], row[HOST]), {}, numbers)


def _by_family(families: Sequence[Family], rows: Iterable[Pieces], form: Format) -> Iterator[bytes]:
    """Rows of pieces turned into families of pieces, each after its header."""
    columns = list(zip(*rows, strict=True)) or [()] * len(families)
    for family, column in zip(families, columns, strict=True):
        yield form.header(family)
        yield from column


def _who(name: str, host: str = "") -> str:
    """The labels of every line of a row."""
    label = f'job_name="{escape(name)}"'
    return f'host="{escape(host)}",{label}' if host else label


class _Writer:
    """Writes the pieces of one row."""

    def __init__(self, families: Iterable[Family], bounds: Sequence[float]) -> None:
        self._templates = [
            (_template(family, bounds), family.number if family.optional else "")
            for family in families
        ]

    def __call__(
        self, who: str, texts: Mapping[str, str], numbers: Mapping[str, float | None]
    ) -> Pieces:
        """``who``: the labels that all lines have, escaped; ``texts``: those of some."""
        cells = {
            name: "" if number is None else _SMALL.get(number) or go_number(number)
            for name, number in numbers.items()
        }
        cells["who"] = who
        for label, text in texts.items():
            cells[label] = escape(text)
        return tuple(
            [
                b"" if optional and numbers[optional] is None else (template % cells).encode()
                for template, optional in self._templates
            ]
        )


def _template(family: Family, bounds: Sequence[float]) -> str:
    """The lines of a family for one row, with places for what the row has."""
    return "".join(
        f"{series.name}{{{_labels(family, dict(series.labels))}}} %({series.number})s\n"
        for series in family.series(bounds)
    )


def _labels(family: Family, fixed: Mapping[str, str]) -> str:
    """All labels, sorted. ``who`` may be two, host and job_name: no other sorts between them."""
    values = {label: f'{label}="%({label})s"' for label in family.texts}
    values |= {label: f'{label}="{escape(value)}"' for label, value in fixed.items()}
    values["job_name"] = "%(who)s"
    return ",".join(values[label] for label in sorted(values))
