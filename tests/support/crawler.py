"""Follow the links of the pages, as a reader could."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin, urlsplit

from django.test import Client

_NOT_FOLLOWED = ("/logout/", "/password_change/", "/jsi18n/", "/autocomplete/")


class _Links(HTMLParser):
    """The addresses in a page: of links, and of what its scripts request."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if "data-rows" not in given:  # such an address needs the keys of rows
            names = ("data-url", "data-tail-url")
            self.found += [given[name] or "" for name in names if given.get(name)]
        if tag == "a" and given.get("href"):
            self.found.append(given["href"] or "")


@dataclass(slots=True)
class Crawl:
    """The pages that were reached."""

    pages: dict[str, int] = field(default_factory=dict)
    """The status by path and query."""
    sources: dict[str, str] = field(default_factory=dict)
    """The page on which the link was found."""
    html: dict[str, str] = field(default_factory=dict)
    """The HTML of the pages without a query."""
    broken: list[str] = field(default_factory=list)

    def paths(self) -> set[str]:
        """The pages without their queries."""
        return {urlsplit(page).path for page in self.pages}


def crawl(
    client: Client,
    *starts: str,
    inside: str | tuple[str, ...] = "/admin/chroniker",
    queries: bool = True,
) -> Crawl:
    """Follow all links under ``inside``; of a page with a query, only those without one.

    Without ``queries``, sort links and filters are not followed.

    Every page but the starts must be one that the user may see.
    """
    client.raise_request_exception = False
    result = Crawl()
    waiting = deque(starts)
    while waiting:
        page = waiting.popleft()
        if page in result.pages:
            continue
        response = client.get(page)
        result.pages[page] = response.status_code
        if response.status_code == 403 and page in starts:
            continue
        if response.status_code >= 400 or "/login/" in response.headers.get("Location", ""):
            source = result.sources.get(page, "")
            result.broken.append(f"{response.status_code} {page} on {source}")
        kind = response.get("Content-Type", "")
        if not urlsplit(page).query and response.status_code == 200 and kind[:9] == "text/html":
            result.html[page] = response.content.decode()
        for link in links_of(response):
            target = urldefrag(urljoin(page, link))[0]
            nested = (urlsplit(page).query or not queries) and urlsplit(target).query
            if target.startswith(inside) and not nested and not _is_ignored(target):
                result.sources.setdefault(target, page)
                waiting.append(target)
    return result


def _is_ignored(target: str) -> bool:
    return any(part in target for part in _NOT_FOLLOWED)


def links_of(response: object) -> list[str]:
    """The addresses in a page, or in the HTML of live updates."""
    headers = response.headers  # type: ignore[attr-defined]
    kind = headers.get("Content-Type", "")
    parser = _Links()
    if "Location" in headers:
        return [headers["Location"]]
    if kind.startswith("text/html"):
        parser.feed(response.content.decode())  # type: ignore[attr-defined]
    elif kind.startswith("application/json"):
        body = json.loads(response.content)  # type: ignore[attr-defined]
        parser.feed("".join(body.get("fragments", {}).values()))
    return parser.found
