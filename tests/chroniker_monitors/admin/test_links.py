"""No link of any page is broken, or leads to a page that the reader may not see."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.support.admin import admin_url, monitor_admin_url
from tests.support.crawler import crawl
from tests.support.world import make_world

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

LISTS = ("job", "run", "incident", "host", "maintenance", "notification", "digest")


def starts() -> list[str]:
    return [
        "/admin/", admin_url("job_overview"), monitor_admin_url("changelist"),
        *(admin_url(f"{name}_changelist") for name in LISTS),
    ]  # fmt: skip


def test_every_link_sort_and_filter_works(root: Client) -> None:
    make_world()
    found = crawl(root, *starts())
    assert found.broken == []
    assert len(found.pages) > 200
