"""Links of notifications lead to the admin and to runbooks, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType

from chroniker.alerting.links import admin_link, runbook_link, site_url
from chroniker.models import Job

pytestmark = pytest.mark.one_database


def test_without_site_url_there_are_no_links() -> None:
    assert site_url() == "" and admin_link(Job(pk=1)) == ""


@pytest.mark.parametrize("url", ["https://example.com", "https://example.com/"])
def test_link_leads_to_the_page_of_the_row(settings: Any, url: str) -> None:
    settings.CHRONIKER_SITE_URL = url
    assert site_url() == "https://example.com"
    assert admin_link(Job(pk=7)) == "https://example.com/admin/chroniker/job/7/change/"


def test_row_without_a_page_has_no_link(settings: Any) -> None:
    settings.CHRONIKER_SITE_URL = "https://example.com"
    assert admin_link(None) == ""
    assert admin_link(ContentType(pk=1)) == ""
    assert admin_link(Permission(pk=1)) == ""


@pytest.mark.parametrize("url", ["https://wiki/x", "HTTP://wiki/x?y=1#z"])
def test_runbook_at_an_http_address_is_linked(url: str) -> None:
    assert runbook_link(Job(runbook_url=url)) == url


@pytest.mark.parametrize(
    "url", ["", "javascript:alert(1)", "ftp://wiki/x", "https://a b", "https://a\n", "wiki/x"]
)
def test_other_runbook_addresses_are_not_linked(url: str) -> None:
    assert runbook_link(Job(runbook_url=url)) == ""
    assert runbook_link(None) == ""
