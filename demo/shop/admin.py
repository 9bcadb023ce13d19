from __future__ import annotations

from django.contrib import admin

from .models import Book, DailyReport, FeedItem, Sale, SearchEntry


def euros(cents: int) -> str:
    """``1234`` as ``12.34 €``."""
    return f"{cents // 100:,}.{cents % 100:02d} €"


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    list_display = ("title", "author", "category", "price", "stock")
    list_filter = ("category",)
    search_fields = ("title", "author", "isbn")

    @admin.display(ordering="price_cents")
    def price(self, book: Book) -> str:
        return euros(book.price_cents)


@admin.register(Sale)
class SaleAdmin(admin.ModelAdmin):
    list_display = ("receipt", "sold_on", "book", "quantity", "unit_price")
    list_select_related = ("book",)
    raw_id_fields = ("book",)
    date_hierarchy = "sold_on"
    search_fields = ("=receipt",)

    @admin.display(ordering="unit_cents")
    def unit_price(self, sale: Sale) -> str:
        return euros(sale.unit_cents)


@admin.register(DailyReport)
class DailyReportAdmin(admin.ModelAdmin):
    list_display = ("day", "category", "copies", "revenue")
    list_filter = ("category",)
    date_hierarchy = "day"

    @admin.display(ordering="revenue_cents")
    def revenue(self, report: DailyReport) -> str:
        return euros(report.revenue_cents)


@admin.register(SearchEntry)
class SearchEntryAdmin(admin.ModelAdmin):
    list_display = ("term", "book")
    list_select_related = ("book",)
    raw_id_fields = ("book",)
    search_fields = ("^term",)


@admin.register(FeedItem)
class FeedItemAdmin(admin.ModelAdmin):
    list_display = ("title", "link", "fetched_at")
    search_fields = ("title",)
