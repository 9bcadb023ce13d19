from __future__ import annotations

from urllib.error import URLError
from urllib.request import urlopen
from xml.etree import ElementTree

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from shop.models import FeedItem


class Command(BaseCommand):
    help = "Fetch the publisher's feed of new books (RSS 2.0) and store new items."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("url", nargs="?", default=f"{settings.SITE_URL}/publisher/feed.xml")

    def handle(self, *args: object, url: str, **options: object) -> None:
        try:
            with urlopen(url, timeout=10) as response:
                feed = ElementTree.fromstring(response.read())
        except URLError as error:  # also for an HTTP error status
            raise CommandError(f"{url}: {error}") from error
        except ElementTree.ParseError as error:
            raise CommandError(f"{url}: the feed is incomplete or invalid: {error}") from error
        before = FeedItem.objects.count()
        items = [
            FeedItem(
                guid=item.findtext("guid", ""),
                title=item.findtext("title", ""),
                link=item.findtext("link", ""),
            )
            for item in reversed(list(feed.iter("item")))  # the feed begins with the newest item
        ]
        FeedItem.objects.bulk_create(items, ignore_conflicts=True)
        self.stdout.write(f"{len(items)} items, {FeedItem.objects.count() - before} of them new")
