"""No link of any page is broken, or leads to a page that the reader may not see."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now as utc_now

from chroniker.models import Host
from tests.support.admin import admin_url, monitor_admin_url
from tests.support.crawler import crawl
from tests.support.types import SignIn
from tests.support.world import make_world

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

LISTS = ("job", "run", "incident", "host", "maintenance", "notification", "digest")


def starts() -> list[str]:
    return [
        "/admin/", admin_url("job_overview"), monitor_admin_url("changelist"),
        *(admin_url(f"{name}_changelist") for name in LISTS),
    ]  # fmt: skip


def test_every_link_sort_and_filter_works(root: Client) -> None:
    world = make_world()
    Host.objects.update(last_tick_at=utc_now() - timedelta(days=1))
    found = crawl(root, *starts())
    assert found.broken == []
    assert len(found.pages) > 200
    pages = {page: html for page, html in found.html.items() if page != "/admin/"}
    assert [page for page, html in pages.items() if 'class="chroniker-nav"' not in html] == []
    assert [page for page, html in pages.items() if "No host has ticked since" not in html] == []
    assert 'aria-current="true">Jobs<' in pages[admin_url("job_page", world.job)]
    assert 'aria-current="page">Jobs<' in pages[admin_url("job_changelist")]


VIEWS = ("job", "run", "host", "incident", "maintenance", "notification", "digest", "monitor")
ROLES = {
    "auditor": tuple(f"view_{name}" for name in VIEWS),
    "operator": (
        *(f"view_{name}" for name in VIEWS), "run_job", "stop_job", "change_incident",
        "add_maintenance", "change_maintenance", "change_notification", "view_output",
    ),
    **{f"reader of {name}": (f"view_{name}",) for name in VIEWS},
    "reader of windows": ("view_maintenance", "view_maintenancejob"),
    "editor of jobs": ("add_job", "change_job", "delete_job", "delete_run"),
}  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_no_link_leads_to_a_page_that_is_forbidden(sign_in: SignIn, role: str) -> None:
    make_world()
    found = crawl(sign_in(*ROLES[role]), *starts(), inside="/admin/", queries=False)
    assert found.broken == []


def test_second_site_links_to_itself(sign_in: SignIn, settings: Any) -> None:
    """With fewer pages: what is not registered there is not linked."""
    settings.ROOT_URLCONF = "tests.support.two_sites"
    world = make_world()
    root = sign_in(superuser=True)
    lists = [f"/ops/chroniker/{name}/" for name in ("job/overview", "job", "run", "host")]
    live = f"/ops/chroniker/job/live/?ids={world.failing.pk},{world.job.pk}"
    found = crawl(root, *lists, live, inside=("/ops/", "/admin/"), queries=False)
    assert found.broken == []
    assert [page for page in found.pages if page.startswith("/admin/")] == []
    assert {admin_url("job_page", world.failing), admin_url("run_change", world.run)} <= {
        page.replace("/ops/", "/admin/") for page in found.paths()
    }
    assert not any("/incident/" in page for page in found.pages)
