"""The overview and the calendar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import clear_script_prefix, set_script_prefix
from django.utils.timezone import now as utc_now

from chroniker.admin.day_strip import draw_day
from chroniker.models import Host, JobState, Maintenance
from tests.factories import (
    make_incident,
    make_job,
    make_job_state,
    make_maintenance,
    make_run,
    make_running,
    minutes_from_now,
)
from tests.support.admin import admin_url, visible_text
from tests.support.types import SignIn

pytestmark = pytest.mark.django_db


def overview(client: Client) -> str:
    answer = client.get(admin_url("job_overview"))
    assert answer.status_code == 200
    return visible_text(answer)


def section(text: str, begin: str, end: str) -> str:
    return text.partition(begin)[2].partition(end)[0]


def test_overview_names_each_problem_once(root: Client) -> None:
    Host.objects.create(name="web1", last_tick_at=utc_now())
    failing = make_job(name="failing one", schedule="@daily")
    make_job_state(failing, consecutive_failures=2, last_error="ValueError: <b>",
                   next_run_at=minutes_from_now(600))  # fmt: skip
    late = make_job(name="late one", schedule="@daily")
    make_job_state(late, next_run_at=minutes_from_now(-60))
    blocked = make_job(name="blocked one", schedule="@daily")
    make_job_state(blocked, next_run_at=minutes_from_now(-60), blocked_reason="dependency",
                   blocked_detail="late one has not run")  # fmt: skip
    running = make_job(name="running one")
    make_running(running, parts_done=1, parts_total=4, last_started_at=minutes_from_now(-1),
                 progress_at=utc_now())  # fmt: skip
    soon = make_job(name="soon one", schedule="@daily")
    make_job_state(soon, next_run_at=minutes_from_now(30))
    disabled = make_job(name="disabled one", schedule="@daily", enabled=False)
    make_job_state(disabled, consecutive_failures=9)
    make_incident(failing, summary="boom")
    text = overview(root)
    assert "1 open incident" in text and "boom" in text and "nobody yet" in text
    assert "failing one" in section(text, "Failing (1)", "Late (1)")
    assert "ValueError: &lt;b&gt;" in text
    assert "late one" in section(text, "Late (1)", "Blocked (1)")
    assert "late one has not run" in section(text, "Blocked (1)", "Running (1)")
    assert "running one" in section(text, "Running (1)", "Last 24 hours")
    assert "1 of 4 (25 %)" in text
    assert "from now" in section(text, "Running (1)", "Last 24 hours")
    assert "soon one" in section(text, "Due in the next hour", "Hosts")
    assert "web1" in text.rpartition("Hosts")[2]
    assert "disabled one" not in text


def test_overview_counts_what_it_does_not_list(root: Client) -> None:
    old = utc_now() - timedelta(days=3)
    worst = make_incident(make_job(name="worst"), severity="critical", opened_at=old)
    for number in range(55):
        make_incident(make_job(), severity="info")
        state = make_job_state(make_job(schedule="@daily"), consecutive_failures=number + 1)
    handled = make_incident(make_job(), acknowledged_at=utc_now())
    for _number in range(2):
        make_running(make_job(name=f"runs {_number}"))
    running = make_running(state.job, last_run=state.last_run)
    late = [make_job_state(make_job(schedule="@daily"), next_run_at=minutes_from_now(-60))
            for _number in range(51)]  # fmt: skip
    answer = root.get(admin_url("job_overview"))
    text, html = visible_text(answer), answer.content.decode()
    assert "57 open incidents" in text and "The 50 most severe are listed" in text
    assert admin_url("incident_change", worst) in html
    assert html.index(admin_url("incident_change", worst)) < html.index("chroniker-failing")
    assert admin_url("incident_change", handled) not in html
    assert "Failing (50 of 55)" in text and "?state=failing" in html
    assert "Late (50 of 51)" in text and "?state=late" in html
    assert "Running (3)" in text and "runs 1" in section(text, "Running (3)", "Last 24")
    assert running.job.name in section(text, "Failing (50 of 55)", "Late")  # it failed most often
    listed = root.get(admin_url("job_changelist"), {"state": "late"}).context["cl"].result_count
    assert listed == len(late)


def test_overview_says_that_nothing_is_wrong(root: Client) -> None:
    Host.objects.create(name="web1", last_tick_at=utc_now())
    make_job_state(make_job(schedule="@daily"), next_run_at=minutes_from_now(600))
    text = overview(root)
    assert "No open incident; no job is failing, late or blocked." in text
    assert "Nothing is running." in text


def test_empty_overview_says_what_to_do(root: Client, sign_in: SignIn) -> None:
    assert "There are no jobs yet. Add a job" in overview(root)
    assert "Add a job" not in overview(sign_in("view_job"))


def test_overview_shows_only_what_the_user_may_see(sign_in: SignIn) -> None:
    Host.objects.create(name="web77", last_tick_at=utc_now())
    make_incident(make_job(), summary="secret incident")
    make_job_state(make_job(schedule="@daily"), next_run_at=minutes_from_now(5))
    text = overview(sign_in("view_job"))
    for hidden in ("secret incident", "web77", "Last 24 hours"):
        assert hidden not in text


@pytest.mark.parametrize("name", ["job_overview", "job_overview_live", "job_calendar"])
def test_pages_make_few_queries_for_any_number_of_jobs(root: Client, name: str) -> None:
    def fill(number: int) -> None:
        for _ in range(number):
            job = make_job(schedule="*/5 * * * *")
            make_running(job, consecutive_failures=1)
            make_incident(job)
            make_run(job, status="failed")

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert root.get(admin_url(name)).status_code == 200
        return len(captured)

    fill(2)
    queries()
    few = queries()
    fill(30)
    assert queries() == few <= 10


def test_overview_answers_304_until_something_changes(root: Client) -> None:
    state = make_running(make_job(), parts_done=1, parts_total=4)
    url = admin_url("job_overview_live")
    first = root.get(url)
    assert "1 of 4" in first.json()["fragments"]["overview"]
    assert first.json()["active"] is True
    headers = {"If-None-Match": first["ETag"]}
    assert root.get(url, headers=headers).status_code == 304
    JobState.objects.filter(pk=state.pk).update(parts_done=2)
    assert "2 of 4" in root.get(url, headers=headers).json()["fragments"]["overview"]


def test_day_counts_runs_by_hour_and_outcome() -> None:
    now = utc_now().replace(minute=30, second=0, microsecond=0)
    job = make_job()
    for status, hours in (
        ("succeeded", 0), ("failed", 1), ("timed_out", 1), ("succeeded", 1), ("missed", 23),
        ("succeeded", 24),
    ):  # fmt: skip
        more = {"missed_reason": "overlap"} if status == "missed" else {}
        make_run(job, status=status, ended_at=now - timedelta(hours=hours), **more)
    day = draw_day(now)
    assert (day.succeeded, day.failed, day.other) == (2, 2, 1)
    by_hour = [(c.succeeded, c.failed, c.other) for c in day.columns]
    assert len(by_hour) == 24
    assert (by_hour[-1], by_hour[-2], by_hour[0]) == ((1, 0, 0), (1, 2, 0), (0, 0, 1))
    assert day.columns[-2].failed_height > 0


# --- the calendar ---


def test_calendar_shows_pile_ups_and_windows(root: Client) -> None:
    for name in ("alpha", "beta", "<i>gamma"):
        make_job(name=name, schedule="0 3 * * *")
    make_job(name="disabled", schedule="0 3 * * *", enabled=False)
    make_job(name="manual")
    broken = make_job(name="broken")
    type(broken).objects.filter(pk=broken.pk).update(schedule="61 * * * *")
    window = make_maintenance(utc_now() + timedelta(hours=1), 60, reason="new <b>disks")
    for span in ("day", "week", "nonsense"):
        answer = root.get(admin_url("job_calendar"), {"span": span})
        text = visible_text(answer)
        assert "4 jobs with a schedule" in text
        assert "alpha, beta, &lt;i&gt;gamma" in text
        assert "new &lt;b&gt;disks" in text and "all jobs" in text
        assert admin_url("maintenance_change", window) in answer.content.decode()
        assert "chroniker-window" in answer.content.decode()


def test_empty_calendar_says_why(root: Client) -> None:
    text = visible_text(root.get(admin_url("job_calendar")))
    assert "No enabled job has a schedule." in text
    assert "No two jobs start in the same minute." in text
    assert "No window is active or planned" in text


@time_machine.travel(datetime(2026, 11, 26, 12, 30, tzinfo=UTC))
def test_calendar_shows_every_window_of_a_series(sign_in: SignIn) -> None:
    root = sign_in(superuser=True)
    make_job(schedule="@hourly")
    now = utc_now().replace(minute=0, second=0, microsecond=0)
    first = now + timedelta(hours=3)
    recurrence = f"{first.minute} {first.hour} * * *"
    make_maintenance(first, 90, reason="nightly", recurrence=recurrence)
    make_maintenance(now - timedelta(days=9), 30, reason="stale", recurrence="0 0 31 2 *")
    broken = make_maintenance(now, 60, reason="broken")
    Maintenance.objects.filter(pk=broken.pk).update(recurrence="nonsense")
    answer = root.get(admin_url("job_calendar"), {"span": "week"})
    covered = [n for n, cell in enumerate(answer.context["calendar"].cells) if cell.paused]
    expected = sorted({0, *(24 * day + hour for day in range(7) for hour in (3, 4))})
    assert covered == expected
    text = visible_text(answer)
    assert f"repeats: {recurrence}; 6 more times here" in text
    assert "stale" not in text and "broken" in text
    day = root.get(admin_url("job_calendar")).context["calendar"]
    assert [n for n, cell in enumerate(day.cells) if cell.paused] == [0, 3, 4]


def test_calendar_hides_windows_from_users_who_may_not_view_them(sign_in: SignIn) -> None:
    make_maintenance(utc_now() + timedelta(hours=1), 60, reason="secret plan")
    assert "secret plan" not in sign_in("view_job").get(admin_url("job_calendar")).content.decode()


# --- every page ---


@pytest.mark.one_database
def test_empty_lists_say_what_will_be_there(root: Client) -> None:
    words = {
        "job": "Add the first one", "run": "when a job is due", "host": "with its first tick",
        "incident": "when a job fails", "notification": "when an incident opens",
        "maintenance": "mutes the alerts", "digest": "one email a day",
    }  # fmt: skip
    for model, text in words.items():
        assert text in visible_text(root.get(admin_url(f"{model}_changelist"))), model
    assert "add_starter_monitors" in visible_text(root.get("/admin/chroniker_monitors/monitor/"))
    make_job()
    searched = visible_text(root.get(admin_url("job_changelist"), {"q": "nothing"}))
    assert "Nothing matches the search and the filters. Show all" in searched
    assert "Add the first one" not in visible_text(root.get(admin_url("job_changelist")))


@pytest.fixture
def prefix(settings: Any) -> Iterator[None]:
    """The site is served below /app, as by FORCE_SCRIPT_NAME."""
    settings.FORCE_SCRIPT_NAME = "/app"
    set_script_prefix("/app/")  # what the WSGI handler does, and the test client does not
    yield
    clear_script_prefix()


@pytest.mark.one_database
@pytest.mark.usefixtures("prefix")
def test_every_address_has_the_prefix_of_the_site(root: Client, settings: Any) -> None:
    settings.STATIC_URL = "/app/static/"
    settings.LOGIN_URL = "/app/login/"
    job = make_job(schedule="@daily", runbook_url="https://wiki.example/x")
    run = make_running(job, last_run=make_run(job), last_status="failed").current_run
    incident = make_incident(job, last_run=run)
    paths = [
        admin_url("job_overview"), admin_url("job_changelist"), admin_url("job_page", job),
        admin_url("job_change", job), admin_url("job_calendar"), admin_url("run_change", run),
        admin_url("incident_change", incident),
    ]  # fmt: skip
    for path in paths:
        text = root.get(path.removeprefix("/app")).content.decode()
        found = re.findall(r'(?:href|action|src|data-[a-z-]*url)="(/[^"]*)"', text)
        assert found
        assert [url for url in found if not f"{url}/".startswith("/app/")] == [], path
    live = root.get("/admin/chroniker/job/live/", {"ids": str(job.pk)}).json()["fragments"]
    assert "/app/admin/chroniker/run/" in live[f"job-{job.pk}-last"]
