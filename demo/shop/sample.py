"""Sample books and sales from a seeded random generator: the same on every machine."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from .models import Book, Category
from .sales import COLUMNS

SEED = 1851
BOOKS = 600
SALES = 50_000
DAYS = 60

_FIRST = "Silent Broken Golden Winter Second Hidden Paper Northern Last Borrowed Salt Glass".split()
_SECOND = "Harbour Garden Ledger Orchard Lantern River Kitchen Station Compass Island".split()
_THIRD = "Stories Letters Atlas Mystery Handbook".split()
_NAMES = "Ada Björn Chiara Dmitri Elif Femi Grace Hana Ivo Jun".split()
_SURNAMES = "Okafor Lindqvist Moreau Tanaka Schäfer Novák Byrne Castellanos".split()

MALFORMED = (
    {"quantity": "two"},
    {"unit_price": "12.9O"},
    {"sold_on": "2026-02-30"},
    {"isbn": "9780000000000"},
    {"quantity": "-1"},
    {"receipt": ""},
    {"unit_price": None},
)
"""The errors of the malformed rows, one each."""


def books() -> list[Book]:
    """Return the books of the shop."""
    rng = random.Random(SEED)
    titles = [f"{a} {b} {c}" for a in _FIRST for b in _SECOND for c in _THIRD]
    rng.shuffle(titles)
    return [
        Book(
            isbn=_isbn(number),
            title=title,
            author=f"{rng.choice(_NAMES)} {rng.choice(_SURNAMES)}",
            category=rng.choice(Category.values),
            price_cents=rng.randrange(599, 4999, 50),
            stock=rng.randrange(0, 40),
        )
        for number, title in enumerate(titles[:BOOKS])
    ]


def write_sales(path: Path, last_day: date, count: int = SALES) -> None:
    """Write a CSV file of ``count`` sales up to ``last_day``, with some malformed rows.

    The file is complete when it appears.
    """
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_sales(last_day, count))
    unfinished.replace(path)


def _sales(last_day: date, count: int) -> Iterator[list[str]]:
    rng = random.Random(SEED)
    stock = [(book.isbn, book.price_cents) for book in books()]
    days = [str(last_day - timedelta(days=DAYS - 1 - n)) for n in range(DAYS)]
    every = count // (len(MALFORMED) + 1)
    for number in range(count):
        isbn, cents = rng.choice(stock)
        if rng.random() < 0.1:
            cents = cents * 80 // 100  # a sale at a discount
        sale: dict[str, str | None] = {
            "receipt": f"R{number:08d}",
            "sold_on": days[number * DAYS // count],
            "isbn": isbn,
            "quantity": str(rng.choice((1, 1, 1, 1, 2, 2, 3))),
            "unit_price": f"{cents // 100}.{cents % 100:02d}",
        }
        yield [value or "" for value in sale.values()]
        index, left = divmod(number, every)
        if left == 0 and 0 < index <= len(MALFORMED):
            wrong = sale | {"receipt": f"X{index:08d}"} | MALFORMED[index - 1]
            yield [value for value in wrong.values() if value is not None]


def _isbn(number: int) -> str:
    digits = f"978{310_000_000 + number:09d}"
    check = -sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(digits)) % 10
    return f"{digits}{check}"
