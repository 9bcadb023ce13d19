"""Charts of groups and bands, the backtest and the list of kinds, in a real browser."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker_monitors.admin.monitor_panel import MAX_LINES
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.checking.recorder import record_measurement
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Probe, Sample
from chroniker_monitors.series import SeriesValue
from tests.factories import make_monitor
from tests.support.admin import monitor_admin_url
from tests.support.browser import run_in_browser
from tests.support.types import SignIn

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.one_database,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("strict_policy"),
]

HOSTILE = '<img src=x onerror=alert(1)> "quoted" {{ 7*7 }}'
OVERLAPS = """(boxes) => {
    const found = boxes.map((box) => box.getBoundingClientRect());
    return found.some((a, i) => found.slice(i + 1).some((b) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1
    ));
}"""
CLIPPED = """(texts) => texts.filter((text) => {
    const box = text.getBBox();
    const [, , width, height] = text.ownerSVGElement.getAttribute("viewBox").split(" ");
    return box.x < 0 || box.y < 0 || box.x + box.width > width || box.y + box.height > height;
}).map((text) => text.textContent)"""
X_LABELS = """(svg) => [...svg.querySelectorAll("text[text-anchor=middle]")]
    .map((text) => text.textContent)"""


def make_grouped_monitor() -> Monitor:
    """Twelve groups with a day of history; one of them is hostile and critical."""
    monitor = make_monitor(
        "records", name="orders", params={"model": "chroniker.Run", "group_by": "status"},
        warning=1_200_000, critical=1_300_000, timezone="Asia/Kathmandu",
    )  # fmt: skip
    now = utc_now()
    for minute in (30, 20, 10, 0):
        values = {f"country {n:02}": 1_000_000.0 + 10_000 * n for n in range(11)}
        values[HOSTILE] = 1_234_567.0 + 3_000 * (30 - minute)
        series = tuple(
            SeriesValue(name, value, monitor.probe.evaluate(value))
            for name, value in values.items()
        )
        measurement = Measurement(Severity.OK, unit="rows", series=series)
        record_measurement(
            monitor, monitor.probe, "", lambda state, m=measurement: m,
            now=now - timedelta(minutes=minute),
        )  # fmt: skip
    return monitor


def make_learning_monitor() -> Monitor:
    """A month of hourly values with a band in the last days."""
    monitor = make_monitor(
        name="logins", operator="unusual", warning=2, critical=4, timezone="Europe/Berlin"
    )
    now = utc_now()
    samples = []
    for hours in range(31 * 24):
        at = now - timedelta(hours=hours)
        usual = 600 + 400 * math.sin(at.hour / 24 * 2 * math.pi)
        known = hours < 7 * 24
        samples.append(
            Sample(
                job_id=monitor.pk, at=at, value=usual * (2.5 if hours == 3 else 1), severity=0,
                expected_low=usual * 0.9 if known else None,
                expected_high=usual * 1.1 if known else None,
            )
        )  # fmt: skip
    Sample.objects.bulk_create(samples)
    MonitorState.objects.create(
        job_id=monitor.pk, value=samples[0].value, last_sample_at=now, since=now, unit="users",
        message="Usually 900 to 1100 at this hour on Thursdays; now 1000",
    )  # fmt: skip
    return monitor


def test_charts_kinds_and_backtest(live_server: Any, sign_in: SignIn) -> None:
    grouped, learning = make_grouped_monitor(), make_learning_monitor()

    def check_kinds(page: Any) -> None:
        page.goto(live_server.url + monitor_admin_url("add"))
        assert page.eval_on_selector_all(".chroniker-kinds a", "(links) => links.length") > 10
        assert not page.eval_on_selector_all(".chroniker-kinds a", OVERLAPS)

    def check_groups(page: Any) -> None:
        page.goto(live_server.url + monitor_admin_url("change", grouped))
        rows = page.locator(".chroniker-groups tbody tr")
        assert rows.count() == 12
        assert HOSTILE in rows.nth(0).inner_text()  # the worst one
        assert "critical" in rows.nth(0).inner_text()
        assert page.locator(".chroniker-groups .chroniker-key line").count() == MAX_LINES
        lines = page.locator("svg.chroniker-chart polyline")
        assert lines.count() == MAX_LINES
        assert "chroniker-series-1" in (lines.nth(0).get_attribute("class") or "")
        page.goto(live_server.url + monitor_admin_url("changelist"))
        assert HOSTILE in page.locator("#result_list tr", has_text="orders").inner_text()

    def check_axes(page: Any, monitor: Monitor) -> None:
        for span in ("hour", "day", "week", "month"):
            page.goto(f"{live_server.url}{monitor_admin_url('change', monitor)}?span={span}")
            assert page.eval_on_selector_all("svg.chroniker-chart text", CLIPPED) == []
            labels = page.eval_on_selector("svg.chroniker-chart", X_LABELS)
            assert 4 <= len(labels) <= 9
            if span in ("hour", "day"):
                assert all(label.endswith("0") for label in labels)

    def check_backtest(page: Any) -> None:
        page.goto(live_server.url + monitor_admin_url("change", learning))
        assert page.locator("svg.chroniker-chart polygon.chroniker-expected").count() == 1
        page.select_option("#id_probe_operator", ">")
        page.fill("#id_probe_warning", "900")
        page.fill("#id_probe_critical", "1500")
        page.fill("#id_description", "not saved")
        page.get_by_role("button", name="Backtest").click()
        result = page.locator("#chroniker-backtested")
        result.locator("table.chroniker-backtest").wait_for()
        assert "744 samples" in result.inner_text()
        assert result.locator(".chroniker-when rect").count() >= 30
        assert page.input_value("#id_description") == "not saved"
        page.fill("#id_probe_consecutive", "")
        page.get_by_role("button", name="Backtest").click()
        page.get_by_text("Fix the errors in the form first.").wait_for()

    def do(page: Any) -> None:
        page.on("dialog", lambda dialog: pytest.fail(f"A script ran: {dialog.message}"))
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            check_kinds(page)
        page.set_viewport_size({"width": 1280, "height": 900})
        check_groups(page)
        check_axes(page, grouped)
        check_axes(page, learning)
        check_backtest(page)

    run_in_browser(live_server.url, sign_in(superuser=True), do)
    assert Probe.objects.get(job=learning.pk).operator == "unusual"
