"""What the demo's jobs did, checked by other means than those of the shop."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

from django.contrib.sessions.models import Session
from shop.management.commands.seed_demo import EXPIRING
from shop.models import FeedItem, FeedRequest, Sale
from shop.sample import MALFORMED, SALES

from chroniker.models import Run
from tests.demo.running.names import FEED, IMPORT, SESSIONS
from tests.support.runs import stored_output


def test_import_stores_every_sale_once_and_reports_malformed_rows() -> None:
    assert Sale.objects.count() == SALES
    runs = Run.objects.filter(job__name=IMPORT, status="succeeded").order_by("id")
    for run in runs:
        assert len(stored_output(run, "stderr").splitlines()) == len(MALFORMED)
        assert run.parts_done == run.parts_total == SALES + len(MALFORMED)
    assert f"{SALES} new sales" in stored_output(runs[0], "stdout")


def test_report_has_the_totals_of_the_sales_file(directory: Path) -> None:
    expected: dict[tuple[str, str], tuple[int, int]] = {}
    with closing(sqlite3.connect(directory / "bookshop.sqlite3")) as database:
        category = dict(database.execute("SELECT isbn, category FROM shop_book"))
        report = {
            (day, name): (copies, cents)
            for day, name, copies, cents in database.execute(
                "SELECT day, category, copies, revenue_cents FROM shop_dailyreport"
            )
        }
    with (directory / "sales.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            if not row[0].startswith("R"):  # the heading, and the rows that are malformed
                continue
            _, day, isbn, quantity, price = row
            copies, cents = expected.get((day, category[isbn]), (0, 0))
            euros, _, rest = price.partition(".")
            cents += int(quantity) * (100 * int(euros) + int(rest))
            expected[day, category[isbn]] = (copies + int(quantity), cents)
    assert report == expected


def test_two_backups_are_kept_and_the_newest_has_every_row(directory: Path) -> None:
    backups = sorted((directory / "backups").glob("bookshop-*.sqlite3"))
    assert 0 < len(backups) <= 2
    counts = []
    for path in (directory / "bookshop.sqlite3", backups[-1]):
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            counts.append(
                [
                    database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                    for table in ("shop_book", "shop_sale", "shop_dailyreport", "chroniker_job")
                ]
            )
    assert counts[0] == counts[1]


def test_expired_sessions_are_deleted_and_live_ones_kept() -> None:
    last = Run.objects.filter(job__name=SESSIONS, status="succeeded").latest("id")
    assert not Session.objects.filter(expire_date__lt=last.started_at).exists()
    assert 0 < Session.objects.count() < EXPIRING


def test_every_third_request_of_the_feed_fails_with_its_reason() -> None:
    runs = Run.objects.filter(job__name=FEED).exclude(status__in=("missed", "interrupted"))
    failed = runs.filter(status="failed")
    assert failed.count() == FeedRequest.objects.count() // 3
    errors = " ".join(failed.values_list("error", flat=True))
    assert "503" in errors and "incomplete" in errors
    assert FeedItem.objects.exists()
