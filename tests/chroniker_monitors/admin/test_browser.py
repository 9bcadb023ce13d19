"""Monitors in a real browser, with a policy that forbids inline scripts and styles.

``WRITE=1`` writes the pictures of the documentation.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Sample
from tests.factories import make_gauge_monitor, make_monitor, monitor_state
from tests.support.admin import monitor_admin_url
from tests.support.browser import open_browser_page, run_in_browser
from tests.support.machine import REPO
from tests.support.types import RunManage, SignIn

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.one_database,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("strict_policy"),
]


def save_screenshot(page: Any, name: str) -> None:
    if os.environ.get("WRITE") == "1":
        path = REPO / "docs" / "img" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path)


class TickHandshake:
    """Lets the browser thread and the ticks of the test thread take turns."""

    def __init__(self) -> None:
        self._asked, self._done = threading.Semaphore(0), threading.Semaphore(0)

    def tick(self) -> None:
        """Called in the browser thread: request a tick and wait for it."""
        self._asked.release()
        assert self._done.acquire(timeout=60)

    def serve(self, browser: Any, tick: Callable[[], None]) -> None:
        """Called in the test thread: tick on request until the browser has finished."""
        while not browser.done():
            if self._asked.acquire(timeout=0.05):
                tick()
                self._done.release()
        browser.result()


def test_disk_monitor_from_creation_to_recovery(
    live_server: Any, sign_in: SignIn, manage: RunManage
) -> None:
    turns, base = TickHandshake(), live_server.url

    def run_now(page: Any) -> None:
        page.get_by_role("button", name="Run now").click()
        page.get_by_text("1 run requested").wait_for()
        turns.tick()

    def do(page: Any) -> None:
        page.set_viewport_size({"width": 1280, "height": 800})
        # choose a kind
        page.goto(base + monitor_admin_url("changelist"))
        page.get_by_role("link", name="Add monitor").click()
        page.get_by_role("link", name="Disk").click()
        page.fill("#id_name", "disk of this machine")
        page.fill("#id_param_path", "/")
        page.fill("#id_probe_critical", "0")
        page.fill("#id_schedule", "@yearly")  # no slot of its own while the test runs
        page.locator("#chroniker-preview li").first.wait_for()
        # test it before saving
        page.get_by_role("button", name="Test now").click()
        tested = page.locator("#chroniker-tested")
        tested.locator(".chroniker-severity-critical").wait_for(timeout=60_000)
        assert "%" in tested.inner_text()
        page.set_viewport_size({"width": 1280, "height": 2050})
        save_screenshot(page, "monitor-form")
        page.get_by_role("button", name="Save and continue editing").first.click()
        page.get_by_text("was added successfully").wait_for()
        # measure with a real tick
        run_now(page)
        page.goto(base + monitor_admin_url("changelist"))
        row = page.locator("#result_list tbody tr", has_text="disk of this machine")
        row.locator(".chroniker-severity-critical").wait_for()
        assert "%" in row.locator(".field-value").inner_text()
        # change the threshold: it recovers
        row.get_by_role("link", name="disk of this machine").click()
        page.fill("#id_probe_critical", "101")
        page.get_by_role("button", name="Save and continue editing").first.click()
        page.get_by_text("was changed successfully").wait_for()
        run_now(page)
        page.reload()
        page.locator(".chroniker-measured .chroniker-severity-ok").wait_for()
        assert page.locator("svg.chroniker-chart .chroniker-threshold-critical").count() == 1
        page.goto(base + monitor_admin_url("changelist"))
        row.locator(".chroniker-severity-ok").wait_for()
        assert row.locator("svg.chroniker-spark").count() == 1

    session = sign_in(superuser=True).cookies["sessionid"].value

    def work() -> None:
        with open_browser_page(base, session) as page:
            do(page)

    def tick() -> None:
        """In a new Python: a fork of this process with its threads may hang."""
        done = manage("cron", timeout=100)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    with ThreadPoolExecutor(1) as pool:
        turns.serve(pool.submit(work), tick)
    monitor = Monitor.objects.get()
    state = monitor_state(monitor)
    assert (state.severity, state.samples_total) == (Severity.OK, 2)
    assert [severity for _value, severity in state.recent_values] == [
        Severity.CRITICAL,
        Severity.OK,
    ]


def test_test_now_works_without_scripts(live_server: Any, sign_in: SignIn, tmp_path: Path) -> None:
    """The button posts the form; the response has the result and the typed values."""
    monitor = make_gauge_monitor(tmp_path, 95)

    def do(page: Any) -> None:
        page.route("**/test-now.js", lambda route: route.fulfill(status=200, body=""))
        page.goto(live_server.url + monitor_admin_url("change", monitor))
        page.fill("#id_description", "not saved")
        page.get_by_role("button", name="Test now").click()
        page.locator("#chroniker-tested .chroniker-severity-critical").wait_for(timeout=60_000)
        assert page.input_value("#id_description") == "not saved"

    run_in_browser(live_server.url, sign_in(superuser=True), do)
    assert Monitor.objects.get().description == ""


def test_offered_fields_follow_the_model(live_server: Any, sign_in: SignIn) -> None:

    def do(page: Any) -> None:
        page.goto(f"{live_server.url}{monitor_admin_url('add')}?kind=records")
        page.select_option("#id_param_model", "chroniker.Run")
        page.locator("#chroniker-field-names", has_text="exit_code").wait_for()
        page.locator("#chroniker-group-names", has_text="status").wait_for()
        options = page.locator("#chroniker-fields option")
        assert "scheduled_for" in [
            options.nth(n).get_attribute("value") for n in range(options.count())
        ]
        page.select_option("#id_param_model", "chroniker.Host")
        page.locator("#chroniker-field-names", has_text="last_tick_at").wait_for()
        assert "exit_code" not in page.locator("#chroniker-field-names").inner_text()

    run_in_browser(live_server.url, sign_in(superuser=True), do)


def make_board() -> Monitor:
    """Monitors in every state; the critical one has a history of a month."""
    now = utc_now()
    rows: list[tuple[str, str, dict[str, Any], Severity, list[float | None], str, str]] = [
        ("Disk of the database", "disk", {"path": "/"}, Severity.CRITICAL,
         [70 + n * 0.6 for n in range(40)], "%", "93.4 % of /var/lib/postgresql used"),
        ("Export to the accountant", "file", {"pattern": "/srv/export.csv"}, Severity.UNKNOWN,
         [3600 + 60.0 * n for n in range(35)] + [None] * 5, "s", "Permission denied"),
        ("Voltage of the UPS", "test_gauge", {"path": "/sys/ups"}, Severity.WARNING,
         [60 + 25 * math.sin(n / 4) for n in range(39)] + [82.0], "V", "on battery"),
        ("Disk of the web server", "disk", {"path": "/"}, Severity.OK,
         [41 + n % 3 * 0.2 for n in range(40)], "%", "41.4 % of / used"),
        ("Nightly backup", "heartbeat", {}, Severity.OK,
         [3600.0 * (n % 24) for n in range(40)], "s", "last ping 15:00:00 ago"),
    ]  # fmt: skip
    for name, kind, params, severity, values, unit, message in rows:
        warning, critical = (86_400, 90_000) if unit == "s" else (80, 90)
        monitor = make_monitor(
            kind,
            name=name,
            params=params,
            warning=warning,
            critical=critical,
            schedule="*/5 * * * *",
        )
        bounds = monitor.probe.thresholds
        severities = [Severity.UNKNOWN if v is None else bounds.evaluate(v) for v in values]
        MonitorState.objects.create(
            job_id=monitor.pk,
            severity=severity,
            measured_severity=severity,
            value=values[-1],
            unit=unit,
            message="" if severity is Severity.UNKNOWN else message,
            error=message if severity is Severity.UNKNOWN else "",
            since=now - timedelta(hours=3),
            last_sample_at=now - timedelta(minutes=2),
            recent_values=[[v, int(s)] for v, s in zip(values, severities, strict=True)],
        )
    monitor = Monitor.objects.get(name="Disk of the database")
    Sample.objects.bulk_create(
        Sample(
            job_id=monitor.pk,
            at=now - timedelta(minutes=20 * n),
            value=None if 500 < n < 520 else max(0.0, 93.4 - n * 0.02 + 3 * math.sin(n / 36)),
            severity=3 if 500 < n < 520 else monitor.probe.evaluate(93.4 - n * 0.02),
        )
        for n in range(2100)
    )
    return monitor


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_needs_inline_scripts_or_styles(
    live_server: Any, sign_in: SignIn, scheme: Any
) -> None:
    monitor = make_board()
    paths = [
        monitor_admin_url("changelist"), monitor_admin_url("add"),
        f"{monitor_admin_url('add')}?kind=heartbeat",
        monitor_admin_url("change", monitor), f"{monitor_admin_url('change', monitor)}?span=month",
        monitor_admin_url("delete", monitor),
    ]  # fmt: skip
    names = {0: "monitors-board", 4: "monitor-page"}

    def do(page: Any) -> None:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 1500, "height": 800})
        for number, path in enumerate(paths):
            assert page.goto(live_server.url + path).status == 200
            page.wait_for_load_state("networkidle")
            if number in names and scheme == "light":
                save_screenshot(page, names[number])

    run_in_browser(live_server.url, sign_in(superuser=True), do)
