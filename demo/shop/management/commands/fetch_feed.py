from __future__ import annotations

from typing import Any
from urllib.error import URLError
from urllib.request import urlopen
from xml.etree import ElementTree

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from shop.models import FeedItem


class Command(BaseCommand):
    help = "Fetch the publisher's feed of new books (RSS 2.0) and keep what is new in it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("url", nargs="?", default=f"{settings.SITE_URL}/publisher/feed.xml")

    def handle(self, *args: Any, url: str, **options: Any) -> None:
        try:
            with urlopen(url, timeout=10) as answer:
                feed = ElementTree.fromstring(answer.read())
        except URLError as error:  # an HTTP status too
            raise CommandError(f"{url}: {error}") from error
        except ElementTree.ParseError as error:
            raise CommandError(f"{url}: the feed is cut short or broken: {error}") from error
        before = FeedItem.objects.count()
        items = [
            FeedItem(
                guid=item.findtext("guid", ""),
                title=item.findtext("title", ""),
                link=item.findtext("link", ""),
            )
            for item in reversed(list(feed.iter("item")))  # the newest comes first in it
        ]
        FeedItem.objects.bulk_create(items, ignore_conflicts=True)
        self.stdout.write(f"{len(items)} items, {FeedItem.objects.count() - before} of them new")
