from __future__ import annotations

from chroniker import track
from django.core.management.base import BaseCommand
from django.db import transaction
from django.db.models import F, Sum

from shop.models import DailyReport, Sale


class Command(BaseCommand):
    help = "Add up the sales of each day and category, in whole cents."

    def handle(self, *args: object, **options: object) -> None:
        days = list(Sale.objects.order_by("sold_on").values_list("sold_on", flat=True).distinct())
        for day in track(days):
            totals = (
                Sale.objects.filter(sold_on=day)
                .order_by()
                .values("book__category")
                .annotate(
                    copies=Sum("quantity"), revenue_cents=Sum(F("quantity") * F("unit_cents"))
                )
                .values("copies", "revenue_cents", category=F("book__category"))
            )
            reports = [DailyReport(day=day, **total) for total in totals]
            with transaction.atomic():
                DailyReport.objects.filter(day=day).delete()
                DailyReport.objects.bulk_create(reports)
        cents = DailyReport.objects.aggregate(cents=Sum("revenue_cents", default=0))["cents"]
        self.stdout.write(f"{len(days)} days, {cents // 100}.{cents % 100:02d} € in total")
