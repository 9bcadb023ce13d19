"""What every page says while no host starts jobs, or all alerts are muted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.html import escape
from django.utils.timezone import now as utc_now

from chroniker.admin.site_status import load_site_status
from chroniker.doctor.cron_line import crontab_line
from chroniker.models import Host, MaintenanceJob
from tests.factories import (
    make_incident,
    make_job,
    make_maintenance,
    make_notification,
    make_run,
    minutes_from_now,
)
from tests.support.admin import admin_url, messages_of
from tests.support.types import SignIn

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

NEVER = "No host has ticked yet, so no job starts."


def overview(client: Client) -> str:
    return client.get(admin_url("job_overview")).content.decode()


def tick(name: str = "web1", minutes: float = 0, **fields: Any) -> Host:
    return Host.objects.create(name=name, last_tick_at=minutes_from_now(minutes), **fields)


def test_every_page_says_that_no_host_has_ever_ticked_and_what_to_do(root: Client) -> None:
    job = make_job()
    incident = make_incident(job)
    window = make_maintenance(utc_now(), 5, job)
    rows = {
        "job": job, "run": make_run(job), "incident": incident, "maintenance": window,
        "notification": make_notification(incident, "1"),
    }  # fmt: skip
    paths = [admin_url(f"{model}_{view}", row) for model, row in rows.items()
             for view in ("change", "history", "delete")]  # fmt: skip
    paths += [admin_url(f"{model}_changelist") for model in (*rows, "host", "digest")]
    paths += [admin_url(name) for name in ("job_add", "job_calendar", "job_overview")]
    paths += [admin_url("job_page", job), reverse("admin:app_list", args=["chroniker"])]
    paths += [reverse("admin:chroniker_monitors_monitor_changelist")]
    for path in paths:
        answer = root.get(path)
        assert answer.status_code == 200, path
        text = answer.content.decode()
        assert text.count(NEVER) == 1, path
        assert "* * * * * " in text, path
        assert 'aria-label="Chroniker"' in text, path
    popup = root.get(admin_url("job_changelist"), {"_popup": "1"}).content.decode()
    assert NEVER not in popup


def test_silent_hosts_are_named(root: Client) -> None:
    tick("web1", minutes=-6)
    tick("web2", minutes=-60)
    tick("gone", minutes=0, retired_at=utc_now())
    text = overview(root)
    assert "No host has ticked since" in text
    assert "Check that cron runs on web1, web2, and" in text
    Host.objects.filter(name="web2").update(last_tick_at=utc_now())
    assert "No host has ticked" not in overview(root)


def test_paused_hosts_start_nothing(root: Client) -> None:
    tick("web1", paused=True)
    tick("web2", minutes=-60)
    assert "Every host that ticks is paused" in overview(root)
    tick("web3")
    assert "is paused, so" not in overview(root)


def test_window_for_all_jobs_is_shown_while_it_is_active(root: Client) -> None:
    tick()
    now = utc_now()
    job = make_job()
    make_maintenance(now - timedelta(hours=2), 60, reason="over")
    make_maintenance(now + timedelta(hours=1), 60, reason="to come")
    make_maintenance(now - timedelta(hours=1), 120, job, reason="one job")
    forgotten = make_maintenance(now - timedelta(hours=1), 120, reason="deleted job")
    MaintenanceJob.objects.create(maintenance=forgotten, job=None)
    assert "A maintenance window" not in overview(root)
    window = make_maintenance(now - timedelta(hours=1), 120, reason="<b>disks</b>")
    text = overview(root)
    assert "mutes the alerts of all jobs until" in text
    assert "&lt;b&gt;disks&lt;/b&gt;" in text
    assert admin_url("maintenance_change", window) in text
    type(window).objects.filter(pk=window.pk).update(pause=True)
    assert "mutes all alerts and starts no job until" in overview(root)


def test_cron_line_is_that_of_the_doctor(root: Client) -> None:
    assert escape(crontab_line()) in overview(root)


def test_status_is_read_once_in_a_request(rf: Any, django_assert_num_queries: Any) -> None:
    tick()
    request = rf.get("/")
    with django_assert_num_queries(1):
        first = load_site_status(request)
        assert load_site_status(request) is first
    assert [host.name for host in first.starting] == ["web1"]


def test_run_now_promises_a_tick_only_if_a_host_ticks(root: Client) -> None:
    def message() -> str:
        return messages_of(root.post(admin_url("job_run", make_job()), follow=True))[0]

    nobody = "1 run requested. At present no host starts jobs; the top of this page says why."
    assert message() == nobody
    host = tick()
    assert message() == "1 run requested. It starts with the next tick."
    Host.objects.filter(pk=host.pk).update(paused=True)
    assert message() == nobody


def test_navigation_leads_only_where_the_user_may_go(sign_in: SignIn) -> None:
    text = sign_in("view_run").get(admin_url("run_changelist")).content.decode()
    nav = text.partition('class="chroniker-nav"')[2].partition("</nav>")[0]
    assert admin_url("run_changelist") in nav
    assert admin_url("job_changelist") not in nav
    assert admin_url("job_overview") not in nav
    assert 'aria-current="page"' in nav
