"""The admin over HTTP, as a browser does it: cookies, a session and the token of the form."""

from __future__ import annotations

import re
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import pytest

from chroniker.models import Job
from chroniker_monitors.models import Monitor
from demo.site import DemoSite

LOGIN = "/admin/login/?next=/admin/chroniker/job/"
PAGES = [
    "chroniker/run", "chroniker/host", "chroniker/incident", "chroniker/notification",
    "chroniker/maintenance", "chroniker/digest", "shop/dailyreport", "shop/sale",
]  # fmt: skip


class Browser:
    """An HTTP client that keeps cookies."""

    def __init__(self, site: DemoSite) -> None:
        self._url = site.url
        self.cookies = CookieJar()
        self._opener: OpenerDirector = build_opener(HTTPCookieProcessor(self.cookies))

    def open(self, path: str, fields: dict[str, str] | None = None) -> tuple[str, str]:
        """The address after redirects, and the page."""
        data = urlencode(fields).encode() if fields else None
        with self._opener.open(self._url + path, data, timeout=10) as response:
            assert response.status == 200
            return response.url, response.read().decode()


@pytest.fixture
def fields(site: DemoSite) -> dict[str, str]:
    return {"username": "admin", "password": site.password}


@pytest.fixture
def browser(site: DemoSite, fields: dict[str, str]) -> Browser:
    """A browser that is logged in."""
    browser = Browser(site)
    _, form = browser.open(LOGIN)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert token is not None
    url, _ = browser.open(LOGIN, fields | {"csrfmiddlewaretoken": token[1]})
    assert url.endswith("/admin/chroniker/job/")
    assert any(cookie.name == "sessionid" for cookie in browser.cookies)
    return browser


def test_login_without_the_token_is_refused(site: DemoSite, fields: dict[str, str]) -> None:
    browser = Browser(site)
    browser.open(LOGIN)
    with pytest.raises(HTTPError) as caught:
        browser.open(LOGIN, fields)
    caught.value.close()
    assert caught.value.code == 403


def test_every_job_is_in_the_list(browser: Browser) -> None:
    _, page = browser.open("/admin/chroniker/job/")
    for job in Job.objects.all():
        assert f'"/admin/chroniker/job/{job.pk}/"' in page, job


def test_every_monitor_is_on_the_board_and_its_page_opens(browser: Browser) -> None:
    _, board = browser.open("/admin/chroniker_monitors/monitor/")
    for monitor in Monitor.objects.all():
        path = f"/admin/chroniker_monitors/monitor/{monitor.pk}/change/"
        assert path in board, monitor
        browser.open(path)


@pytest.mark.parametrize("path", PAGES)
def test_list_opens(browser: Browser, path: str) -> None:
    browser.open(f"/admin/{path}/")
