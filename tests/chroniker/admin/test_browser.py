"""The pages in a real browser, with a policy that forbids inline scripts and other hosts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now as utc_now

from chroniker.models import JobDependency, JobState, Run
from chroniker.site_tasks import has_library
from tests.factories import (
    make_chunk,
    make_incident,
    make_job,
    make_maintenance,
    make_output,
    make_run,
    make_running,
)
from tests.support.admin import admin_url
from tests.support.browser import open_browser_page, run_in_browser
from tests.support.tasks import TASKS
from tests.support.types import SignIn

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.one_database,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("strict_policy"),
]


def test_schedule_preview_and_task_signature_update_while_typing(
    live_server: Any, sign_in: SignIn
) -> None:
    def do(page: Any) -> None:
        page.goto(live_server.url + admin_url("job_add"))
        box = page.locator("#chroniker-preview")
        page.fill("#id_timezone", "Asia/Tokyo")
        page.locator("#id_schedule").press_sequentially("30 9 * * *")
        box.get_by_text("09:30:00 JST").first.wait_for()
        assert box.locator("li").count() == 5
        page.fill("#id_schedule", "61 <img src=x onerror=alert(1)>")
        box.locator(".chroniker-error").wait_for()
        assert box.locator("img").count() == 0
        if has_library():
            page.fill("#id_task", f"{TASKS}.say")
            box = page.locator("#chroniker-task-help")
            box.locator("summary").click()
            box.get_by_text("say(text: str").wait_for()
            assert page.locator("#chroniker-command-help").is_hidden()

    run_in_browser(live_server.url, sign_in("view_job", "add_job"), do)


def in_thread(live_server: Any, client: Client, do: Callable[[Any], Any]) -> Future[Any]:
    """Start what a browser does; the test writes to the database meanwhile."""
    session = client.cookies["sessionid"].value

    def work() -> Any:
        with open_browser_page(live_server.url, session) as page:
            return do(page)

    return ThreadPoolExecutor(1).submit(work)


def test_list_moves_while_it_is_watched_and_rests_in_a_hidden_tab(
    live_server: Any, sign_in: SignIn
) -> None:
    """And "Run now" works by keyboard, on the page to which the list leads."""
    job = make_job(name="import <b>sales</b>")
    make_running(job, parts_done=1, parts_total=4)
    seen = {name: threading.Event() for name in ("first", "moved", "hidden")}

    def do(page: Any) -> None:
        asked: list[str] = []
        page.on("request", lambda request: "/live/" in request.url and asked.append(request.url))
        page.goto(live_server.url + admin_url("job_changelist"))
        page.get_by_text("1 of 4 (25 %)").wait_for()
        page.evaluate("window.notReloaded = true")
        seen["first"].set()
        page.get_by_text("3 of 4 (75 %)").wait_for()
        assert page.evaluate("window.notReloaded")
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        page.wait_for_timeout(200)
        before = len(asked)
        page.wait_for_timeout(2500)
        assert len(asked) == before
        page.evaluate(
            "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))"
        )
        seen["hidden"].set()
        page.locator("#result_list .chroniker-failing").wait_for()
        page.get_by_role("link", name="import <b>sales</b>").click()
        page.get_by_role("button", name="Run now").focus()
        page.keyboard.press("Enter")
        page.get_by_text("1 run requested").wait_for()

    watched = in_thread(live_server, sign_in("view_job", "run_job", "view_run"), do)
    assert seen["first"].wait(30)
    JobState.objects.filter(job=job).update(parts_done=3)
    assert seen["hidden"].wait(30)
    JobState.objects.filter(job=job).update(consecutive_failures=1)
    watched.result(timeout=60)
    assert JobState.objects.get(job=job).run_requested_at is not None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_running_run_is_followed_to_its_end(live_server: Any, sign_in: SignIn, scheme: Any) -> None:
    state = make_running(make_job(), parts_done=1, parts_total=4)
    run = state.current_run
    assert run is not None
    make_output(run, ("stdout", "10%\r20%"))
    shown, overwritten = threading.Event(), threading.Event()

    def do(page: Any) -> list[str]:
        page.emulate_media(color_scheme=scheme)
        page.goto(live_server.url + admin_url("run_change", run))
        page.get_by_text("20%", exact=True).wait_for()
        assert page.get_by_role("button", name="Stop").is_visible()
        shown.set()
        page.get_by_text("40%", exact=True).wait_for()
        overwritten.set()
        page.locator("#chroniker-output .chroniker-stream-stderr li").wait_for()
        page.get_by_text("Ended: failed").wait_for()
        assert not page.get_by_role("button", name="Stop").is_visible()
        assert "ValueError: <img" in page.locator(".chroniker-traceback").text_content()
        assert page.locator("[data-live=facts]").get_by_text("exit status").is_visible()
        assert page.locator("#chroniker-output .chroniker-ansi-fg-1").text_content() == "red"
        assert page.locator("#chroniker-output .chroniker-ansi-fg-2").count() == 2
        numbers = page.locator("#chroniker-numbers")
        numbers.uncheck()
        texts: list[str] = page.locator("#chroniker-output li").all_text_contents()
        return texts

    client = sign_in("view_run", "view_output", "stop_job")
    watched = in_thread(live_server, client, do)
    assert shown.wait(30)
    make_chunk(run, "stdout", 7, "\r30%\r\x1b[32m40%")
    assert overwritten.wait(30)
    make_chunk(run, "stdout", 20, " and\x1b[0m \x1b[31mred\x1b[0m\nthree\n")
    make_chunk(run, "stderr", 0, "<img src=x onerror=alert(1)>")
    Run.objects.filter(pk=run.pk).update(
        status="failed", ended_at=utc_now(), exit_code=1, error="ValueError: <img src=x>"
    )
    assert watched.result(timeout=60) == [
        "40% and red", "three", "<img src=x onerror=alert(1)>",
    ]  # fmt: skip


TOO_WIDE = """
document.documentElement.scrollWidth <= window.innerWidth ? [] :
[...document.querySelectorAll("#container *")]
    .filter((e) => e.getBoundingClientRect().right > window.innerWidth + 1)
    .map((e) => e.tagName + "." + e.className).slice(0, 12)
"""
HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m\u202e"


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_needs_inline_scripts_or_other_hosts_or_is_cut_off(
    live_server: Any, sign_in: SignIn, width: int
) -> None:
    job = make_job(name=HOSTILE[:-2] + "x" * 150, args=HOSTILE, schedule="@daily")
    run = make_running(job, parts_done=1, parts_total=3, last_error=HOSTILE).current_run
    assert run is not None
    make_output(run, ("stdout", "one\n"), ("stderr", HOSTILE + "\n"))
    failed = make_run(job, status="failed", error=HOSTILE)
    JobDependency.objects.create(downstream=make_job(schedule="@hourly"), upstream=job)
    incident = make_incident(job, summary=HOSTILE, note=HOSTILE)
    make_maintenance(utc_now(), 60, reason=HOSTILE)
    paths = [
        admin_url("job_overview"), admin_url("job_changelist"), admin_url("job_page", job),
        admin_url("job_add"), admin_url("job_change", job), admin_url("job_delete", job),
        admin_url("job_calendar") + "?span=week", admin_url("run_changelist"),
        admin_url("run_change", run), admin_url("run_change", failed) + "?q=%3Cimg",
        admin_url("incident_changelist"), admin_url("incident_change", incident),
        admin_url("host_changelist"), admin_url("maintenance_changelist"),
    ]  # fmt: skip

    def do(page: Any) -> None:
        page.set_viewport_size({"width": width, "height": 900})
        for path in paths:
            assert page.goto(live_server.url + path).status == 200
            page.wait_for_load_state("networkidle")
            assert page.locator("img[src=x]").count() == 0, path
            # Tables scroll in their own boxes; the page itself is never wider than the window.
            assert page.evaluate(TOO_WIDE) == [], path

    run_in_browser(live_server.url, sign_in(superuser=True), do)
