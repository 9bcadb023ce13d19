from __future__ import annotations

import logging
from datetime import timedelta

from chroniker_monitors import Monitor
from django.core.management.base import BaseCommand
from django.db.models import Max, Sum

from shop.models import Book, Sale

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Compare the stock of each book with its sales of the last week."

    def handle(self, *args: object, **options: object) -> None:
        last = Sale.objects.aggregate(day=Max("sold_on"))["day"]
        if last is None:
            self.stderr.write("There are no sales yet. Run the import first.")
            return
        logger.info("the week up to %s", last)
        sold = dict(
            Sale.objects.filter(sold_on__gt=last - timedelta(days=7))
            .order_by()
            .values_list("book")
            .annotate(Sum("quantity"))
        )
        short = [book for book in Book.objects.all() if book.stock < sold.get(book.pk, 0)]
        for book in short:
            if book.stock == 0:
                logger.warning(
                    "%s is sold out; %d copies were sold last week", book.isbn, sold[book.pk]
                )
            self.stdout.write(f"order {sold[book.pk] - book.stock} × {book.isbn} {book.title}")
        Monitor.report(len(short), "will not last a week")  # for the monitor that runs this command
        if short:
            self.stderr.write(f"{len(short)} books will not last a week")
