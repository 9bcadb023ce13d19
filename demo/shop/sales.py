"""Import of sales from a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

from chroniker.models import Job

from .models import Book, Sale

COLUMNS = ("receipt", "sold_on", "isbn", "quantity", "unit_price")
BATCH = 1000
"""Rows per transaction: few enough that other writers do not wait long."""


@dataclass(slots=True)
class ImportResult:
    """Counts of rows by result."""

    new: int = 0
    known: int = 0
    malformed: int = 0


def import_sales(path: Path, report_error: Callable[[str], object]) -> ImportResult:
    """Insert the sales of a file, and skip those that exist already.

    So the import can be repeated, even if it was killed. ``report_error`` is called for each
    malformed row.
    """
    books = dict(Book.objects.values_list("isbn", "pk"))
    with path.open(newline="", encoding="utf-8") as file:
        total = sum(1 for _ in file) - 1
        file.seek(0)
        result = ImportResult()
        batch: list[Sale] = []
        done = 0
        for line, sale in _sales(csv.DictReader(file), books):
            done += 1
            if isinstance(sale, Sale):
                batch.append(sale)
            else:
                result.malformed += 1
                report_error(f"{path.name}, line {line}: {sale}")
            if len(batch) == BATCH:
                _insert(batch, result)
                Job.update_progress(total_parts=total, total_parts_complete=done)
        _insert(batch, result)
        Job.update_progress(total_parts=total, total_parts_complete=done)
    return result


def _insert(batch: list[Sale], result: ImportResult) -> None:
    """Insert a batch and clear it. Nothing else writes sales, so a count finds the new ones."""
    known = Sale.objects.filter(receipt__in=[sale.receipt for sale in batch]).count()
    if known < len(batch):
        Sale.objects.bulk_create(batch, ignore_conflicts=True)
    result.known += known
    result.new += len(batch) - known
    batch.clear()


def _sales(rows: csv.DictReader[str], books: Mapping[str, int]) -> Iterator[tuple[int, Sale | str]]:
    """Yield each row's line with its sale, or with its error."""
    for row in rows:
        try:
            yield rows.line_num, _parse(row, books)
        except ValueError as error:
            yield rows.line_num, str(error)


def _parse(row: Mapping[str, str | None], books: Mapping[str, int]) -> Sale:
    """Parse a row. Raises ValueError with the reason."""
    missing = [column for column in COLUMNS if not row.get(column)]
    if missing:
        raise ValueError(f"{' and '.join(missing)} missing")
    receipt, sold_on, isbn, quantity, unit_price = (str(row[column]) for column in COLUMNS)
    if isbn not in books:
        raise ValueError(f"no book has the ISBN {isbn}")
    if not quantity.isdecimal() or int(quantity) == 0:
        raise ValueError(f"{quantity!r} is not a number of copies")
    try:
        cents = Decimal(unit_price) * 100
    except InvalidOperation:
        raise ValueError(f"{unit_price!r} is not a price") from None
    if cents < 0 or cents != int(cents):
        raise ValueError(f"{unit_price!r} is not a price in whole cents")
    try:
        day = date.fromisoformat(sold_on)
    except ValueError:
        raise ValueError(f"{sold_on!r} is not a day") from None
    return Sale(
        receipt=receipt,
        sold_on=day,
        book_id=books[isbn],
        quantity=int(quantity),
        unit_cents=int(cents),
    )
