"""How many statements each page needs: at most 12 for a list, at most 10 for any other page."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import make_user
from tests.support.admin import admin_url, monitor_admin_url
from tests.support.types import SignIn
from tests.support.world import World, make_world

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

LISTS = ("job", "run", "incident", "host", "maintenance", "notification", "digest")
LIST_QUERIES, PAGE_QUERIES = 12, 10


def pages(world: World) -> list[str]:
    rows = {
        "job": world.failing, "run": world.failed, "incident": world.incident, "host": world.host,
        "maintenance": world.window, "notification": world.notification,
    }  # fmt: skip
    lists = [admin_url(f"{name}_changelist") for name in LISTS] + [monitor_admin_url("changelist")]
    return [
        *lists, *(f"{path}?_facets=True&q=a" for path in lists),
        *(admin_url(f"{name}_{view}", row)
          for name, row in rows.items() for view in ("change", "history", "delete")),
        admin_url("job_page", world.failing), admin_url("job_page_live", world.failing),
        admin_url("job_change", world.everywhere), admin_url("job_page", world.everywhere),
        f"{admin_url('job_live')}?ids={world.job.pk},{world.failing.pk}",
        admin_url("run_change", world.run), admin_url("run_tail", world.run),
        admin_url("run_live", world.run), admin_url("incident_live", world.incident),
        admin_url("job_overview"), admin_url("job_overview_live"), admin_url("job_calendar"),
        admin_url("job_add"), f"{admin_url('job_add')}?copy={world.failing.pk}",
        admin_url("maintenance_add"), admin_url("digest_add"),
        *(monitor_admin_url(view, world.monitor) for view in ("change", "history", "delete")),
        monitor_admin_url("change", world.heartbeat),
        monitor_admin_url("add"), monitor_admin_url("add") + "?kind=records",
    ]  # fmt: skip


def test_every_page_makes_few_queries(sign_in: SignIn) -> None:
    world = make_world()
    world.failing.subscribers.add(make_user("ann"), make_user("bob"))
    root = sign_in(superuser=True)
    found = {}
    for page in pages(world):
        root.get(page)  # what is cached in the process
        with CaptureQueriesContext(connection) as queries:
            root.get(page)
        name = urlsplit(page).path.rstrip("/").rpartition("/")[2]
        if len(queries) > (LIST_QUERIES if name in (*LISTS, "monitor") else PAGE_QUERIES):
            found[page] = [query["sql"][:100] for query in queries]
    for k, v in found.items():
        print(k, len(v))
        [print("   ", x) for x in v]
    assert found == {}
