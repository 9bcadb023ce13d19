from __future__ import annotations

from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.feedgenerator import Rss201rev2Feed
from django.views.decorators.http import require_safe

from .jobs import JOBS
from .models import Book, DailyReport, FeedItem, FeedRequest, Sale
from .monitors import demo_monitors


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Show the data of the shop, links to the admin, and the runbooks."""
    words = request.GET.get("q", "").lower().split()
    found = Book.objects.all()
    for word in words:
        found = found.filter(search_entries__term=word)
    context = {
        "query": " ".join(words),
        "found": found[:20] if words else [],
        "books": Book.objects.count(),
        "sales": Sale.objects.count(),
        "report": DailyReport.objects.order_by("category")
        .values("category")
        .annotate(copies=Sum("copies"), euros=Sum("revenue_cents") / 100),
        "news": FeedItem.objects.all()[:5],
        "plans": [*JOBS, *demo_monitors()],
    }
    return render(request, "shop/home.html", context)


@require_safe
def publisher_feed(request: HttpRequest) -> HttpResponse:
    """Simulate the publisher: each request adds a book, and every third request fails."""
    number = FeedRequest.objects.create().pk
    if number % 6 == 3:
        return HttpResponse("The feed is being rebuilt.\n", status=503, content_type="text/plain")
    feed = Rss201rev2Feed("New books", request.build_absolute_uri("/"), "What we print next")
    for n in range(number, max(0, number - 10), -1):
        link = request.build_absolute_uri(f"/?announced={n}")
        feed.add_item(f"Announcement {n}", link, "A new book", unique_id=f"book-{n}")
    text = feed.writeString("utf-8")
    if number % 6 == 0:
        text = text[: len(text) // 2]
    return HttpResponse(text, content_type=feed.content_type)
