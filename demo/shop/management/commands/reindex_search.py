from __future__ import annotations

import re
import time
from typing import Any

from chroniker import track
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from shop.models import Book, SearchEntry


class Command(BaseCommand):
    help = "Write the words of every book anew, slowly, so that the shop stays quick meanwhile."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--seconds", type=float, default=60, help="Spread the work over so long (60)."
        )

    def handle(self, *args: Any, seconds: float, **options: Any) -> None:
        books = list(Book.objects.all())
        began = time.monotonic()
        words = 0
        for number, book in enumerate(track(books), 1):
            terms = search_terms(book)
            with transaction.atomic():
                SearchEntry.objects.filter(book=book).delete()
                SearchEntry.objects.bulk_create(SearchEntry(term=t, book=book) for t in terms)
            words += len(terms)
            time.sleep(max(0.0, began + seconds * number / len(books) - time.monotonic()))
        self.stdout.write(f"{len(books)} books, {words} words")


def search_terms(book: Book) -> list[str]:
    """What somebody may type to find ``book``."""
    text = f"{book.title} {book.author} {book.category} {book.isbn}"
    return sorted(set(re.findall(r"\w+", text.lower())))
