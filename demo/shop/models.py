"""Books, sales, and the results of the jobs. Amounts of money are whole cents."""

from __future__ import annotations

from django.db import models


class Category(models.TextChoices):
    FICTION = "fiction", "Fiction"
    CRIME = "crime", "Crime"
    HISTORY = "history", "History"
    SCIENCE = "science", "Science"
    CHILDREN = "children", "Children"
    COOKING = "cooking", "Cooking"
    TRAVEL = "travel", "Travel"
    POETRY = "poetry", "Poetry"


class Book(models.Model):
    isbn = models.CharField("ISBN", max_length=13, unique=True)
    title = models.CharField(max_length=200)
    author = models.CharField(max_length=200)
    category = models.CharField(max_length=20, choices=Category)
    price_cents = models.PositiveIntegerField()
    stock = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("title", "isbn")
        indexes = (models.Index(fields=["category"], name="shop_book_category"),)

    def __str__(self) -> str:
        return self.title


class Sale(models.Model):
    """A sale. The unique receipt number makes the import repeatable."""

    receipt = models.CharField(max_length=20, unique=True)
    book = models.ForeignKey(Book, models.PROTECT, related_name="sales")
    sold_on = models.DateField()
    quantity = models.PositiveIntegerField()
    unit_cents = models.PositiveIntegerField()

    class Meta:
        ordering = ("-sold_on", "-receipt")
        indexes = (models.Index(fields=["sold_on", "book"], name="shop_sale_day_book"),)

    def __str__(self) -> str:
        return self.receipt


class DailyReport(models.Model):
    """The sales of one category on one day."""

    day = models.DateField()
    category = models.CharField(max_length=20, choices=Category)
    copies = models.PositiveIntegerField()
    revenue_cents = models.PositiveBigIntegerField()

    class Meta:
        ordering = ("-day", "category")
        constraints = (
            models.UniqueConstraint(fields=["day", "category"], name="shop_report_once"),
        )

    def __str__(self) -> str:
        return f"{self.category} on {self.day}"


class SearchEntry(models.Model):
    """A word that finds a book."""

    term = models.CharField(max_length=100)
    book = models.ForeignKey(Book, models.CASCADE, related_name="search_entries")

    class Meta:
        ordering = ("term",)
        verbose_name_plural = "search entries"
        constraints = (models.UniqueConstraint(fields=["term", "book"], name="shop_term_once"),)

    def __str__(self) -> str:
        return self.term


class FeedItem(models.Model):
    """A book that the publisher has announced."""

    guid = models.CharField(max_length=200, unique=True)
    title = models.CharField(max_length=200)
    link = models.URLField(max_length=500)
    fetched_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.title


class FeedRequest(models.Model):
    """A request for the publisher's feed, which the site simulates: every third one fails."""

    asked_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"request {self.pk}"
