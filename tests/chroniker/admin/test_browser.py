"""The pages in a real browser, with a policy that forbids inline scripts and other hosts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker.models import JobState, Run
from tests.factories import make_chunk, make_job, make_output, make_running
from tests.support.admin import admin_url
from tests.support.browser import open_browser_page, run_in_browser
from tests.support.types import SignIn

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.one_database,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("strict_policy"),
]


def test_schedule_preview_updates_while_typing(live_server: Any, sign_in: SignIn) -> None:
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

    run_in_browser(live_server.url, sign_in("view_job", "add_job"), do)


def test_run_now_by_keyboard(live_server: Any, sign_in: SignIn) -> None:
    job = make_job()
    url = live_server.url + admin_url("job_change", job)

    def do(page: Any) -> None:
        page.goto(url)
        page.get_by_role("button", name="Run now").focus()
        page.keyboard.press("Enter")
        page.get_by_text("1 run requested").wait_for()

    run_in_browser(live_server.url, sign_in("view_job", "run_job"), do)
    assert JobState.objects.get(job=job).run_requested_at is not None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_running_run_is_followed_to_its_end(live_server: Any, sign_in: SignIn, scheme: Any) -> None:
    state = make_running(make_job())
    run = state.current_run
    assert run is not None
    make_output(run, ("stdout", "one\n"))
    shown, written = threading.Event(), threading.Event()

    def do(page: Any) -> list[str]:
        page.emulate_media(color_scheme=scheme)
        page.goto(live_server.url + admin_url("run_change", run))
        page.get_by_text("one", exact=True).wait_for()
        shown.set()
        assert written.wait(30)
        page.locator(".chroniker-stream-stderr pre").wait_for()
        page.get_by_text("Ended: succeeded").wait_for()
        texts: list[str] = page.locator("#chroniker-output pre").all_text_contents()
        return texts

    def write() -> None:
        assert shown.wait(30)
        make_chunk(run, "stdout", 4, "two\n")
        make_chunk(run, "stderr", 0, "<img src=x onerror=alert(1)>")
        Run.objects.filter(pk=run.pk).update(status="succeeded", ended_at=utc_now())
        written.set()

    client = sign_in("view_run")
    session = client.cookies["sessionid"].value

    def work() -> list[str]:
        with open_browser_page(live_server.url, session) as page:
            return do(page)

    with ThreadPoolExecutor(1) as pool:
        watched = pool.submit(work)
        write()
        assert watched.result(timeout=60) == ["one\ntwo\n", "<img src=x onerror=alert(1)>"]


def test_no_page_needs_inline_scripts_or_other_hosts(live_server: Any, sign_in: SignIn) -> None:
    job = make_job(schedule="@daily")
    run = make_running(job, parts_done=1, parts_total=3).current_run
    assert run is not None
    make_output(run, ("stdout", "one\n"), ("stderr", "two\n"))
    paths = [
        admin_url("job_changelist"), admin_url("job_add"), admin_url("job_change", job),
        admin_url("job_delete", job), admin_url("run_changelist"), admin_url("run_change", run),
        admin_url("host_changelist"),
    ]  # fmt: skip

    def do(page: Any) -> None:
        for path in paths:
            assert page.goto(live_server.url + path).status == 200
            page.wait_for_load_state("networkidle")

    run_in_browser(live_server.url, sign_in(superuser=True), do)
