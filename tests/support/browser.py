"""Chromium by Playwright, under a strict content security policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.test import Client

from tests.support.machine import find_program

POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


class StrictContentSecurityPolicy:
    """Middleware that adds the policy to every response."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response


@contextmanager
def open_browser_page(base: str, session: str) -> Iterator[Any]:
    """A page with a session; AssertionError for console errors and requests to other hosts."""
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_program("chromium"), args=ARGUMENTS, headless=True
        )
        context = browser.new_context()
        context.add_cookies([{"name": "sessionid", "value": session, "url": base}])
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.on(
            "request",
            lambda asked: asked.url.startswith((base, "data:")) or complaints.append(asked.url),
        )
        page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        yield page
        browser.close()
    assert complaints == []


def run_in_browser(base: str, client: Client, do: Callable[[Any], Any]) -> Any:
    """Run in a thread: Playwright's loop and Django's database cannot share one."""
    session = client.cookies["sessionid"].value

    def work() -> Any:
        with open_browser_page(base, session) as page:
            return do(page)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(timeout=60)
