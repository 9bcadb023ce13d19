from __future__ import annotations

import re
import time

from chroniker import track
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from shop.models import Book, SearchEntry


class Command(BaseCommand):
    help = "Rebuild the search entries of every book, slowly, so that the shop stays fast."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seconds", type=float, default=60, help="Duration in seconds (60).")

    def handle(self, *args: object, seconds: float, **options: object) -> None:
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
    """Return the words that find ``book``."""
    text = f"{book.title} {book.author} {book.category} {book.isbn}"
    return sorted(set(re.findall(r"\w+", text.lower())))
