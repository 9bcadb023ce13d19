"""``Test now`` runs the probe of an unsaved form in a limited process and records nothing."""

from __future__ import annotations

import contextlib
import re
import signal
import time
import tracemalloc
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.test import Client

from chroniker.exceptions import OpenTransaction
from chroniker.models import Job
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.checking.sandbox import MAX_SANDBOXES, reserve_sandbox, run_in_sandbox
from chroniker_monitors.enums import Severity
from chroniker_monitors.exceptions import SandboxBusy
from chroniker_monitors.models import Monitor, Sample
from chroniker_monitors.thresholds import Thresholds
from tests.factories import make_gauge_monitor
from tests.support.admin import gauge_data, monitor_admin_url, visible_text
from tests.support.types import SignIn

pytestmark = [pytest.mark.one_database, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(
    ("gauge_text", "words"),
    [
        ("50 calm", ["ok", "50 V", "calm", "Nothing was recorded"]),
        ("95", ["critical", "95 V"]),
        ("raise the wire is cut", ["unknown", "the wire is cut"]),
        ("exit 7", ["unknown", "ended with exit code 7"]),
        ("kill", ["unknown", "SIGKILL"]),
    ],
)
@pytest.mark.no_leftovers
def test_unsaved_form_can_be_tested(
    root: Client, tmp_path: Path, gauge_text: str, words: list[str]
) -> None:
    (tmp_path / "gauge").write_text(gauge_text)
    data = gauge_data(tmp_path, name="", _test="1")  # a name is not needed yet
    page = root.post(f"{monitor_admin_url('add')}?kind=test_gauge", data)
    answer = page.content.decode().partition('id="chroniker-tested"')[2].partition("</div>")[0]
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer))
    assert all(word in shown for word in words), shown
    assert page.context["adminform"].form["param_path"].value() == str(tmp_path / "gauge")
    assert not Job.objects.exists()
    assert not Sample.objects.exists()


@pytest.mark.no_leftovers
def test_hanging_probe_is_killed_in_time(root: Client, tmp_path: Path) -> None:
    (tmp_path / "gauge").write_text("sleep 300")
    data = gauge_data(tmp_path, probe_timeout="0.5", _test="1")
    page = root.post(f"{monitor_admin_url('add')}?kind=test_gauge", data)
    assert "unknown" in visible_text(page)
    assert "0.5 s" in visible_text(page)


def test_output_of_a_probe_is_not_buffered_by_the_site(tmp_path: Path) -> None:
    (tmp_path / "gauge").write_text("flood 64")
    tracemalloc.start()
    try:
        taken = post_gauge_test(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (taken.message, taken.error) == ("said a lot", "")
    assert peak < 16 * 1024 * 1024


def test_concurrent_tests_are_limited(root: Client, tmp_path: Path) -> None:
    (tmp_path / "gauge").write_text("50 calm")
    data, url = gauge_data(tmp_path, _test="1"), f"{monitor_admin_url('add')}?kind=test_gauge"
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_SANDBOXES):
            stack.enter_context(reserve_sandbox())
        assert "being tested" in visible_text(root.post(url, data))
    assert "calm" in visible_text(root.post(url, data))


def post_gauge_test(path: Path) -> Measurement:
    params = {"path": str(path / "gauge")}
    return run_in_sandbox("test_gauge", params, Thresholds(">", 80, 90), timeout=30)


def test_incomplete_form_is_not_tested(root: Client, tmp_path: Path) -> None:
    page = root.post(
        f"{monitor_admin_url('add')}?kind=test_gauge",
        gauge_data(tmp_path, param_path="", _test="1"),
    )
    assert "Fix the errors in the form first" in visible_text(page)


def test_testing_a_change_saves_nothing(root: Client, tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, 95)
    data = gauge_data(tmp_path, name="renamed", probe_critical="99", probe_warning="", _test="1")
    page = root.post(monitor_admin_url("change", monitor), data)
    assert "95 V" in visible_text(page)
    monitor = Monitor.objects.get()
    assert (monitor.name, monitor.probe.critical) == (monitor.name, 90)
    assert monitor.name != "renamed"


def test_testing_requires_change_permission(sign_in: SignIn, tmp_path: Path) -> None:
    (tmp_path / "gauge").write_text("50")
    data = gauge_data(tmp_path, _test="1")
    url = f"{monitor_admin_url('add')}?kind=test_gauge"
    assert sign_in("view_monitor", "change_monitor").post(url, data).status_code == 403
    assert sign_in("add_monitor", csrf=True).post(url, data).status_code == 403


def test_sandbox_measures_as_a_check_does(tmp_path: Path) -> None:
    (tmp_path / "gauge").write_text("85 warm")
    params = {"path": str(tmp_path / "gauge")}
    found = run_in_sandbox("test_gauge", params, Thresholds("<", 90, 10), timeout=30, unit="kV")
    assert (found.severity, found.value, found.message) == (Severity.WARNING, 85.0, "warm")
    assert (found.unit, found.error) == ("kV", "")
    assert found.latency_seconds is not None and 0 <= found.latency_seconds < 30


def test_secret_of_the_site_is_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_API_TOKEN", "correct-horse-battery")
    (tmp_path / "gauge").write_text("raise refused correct-horse-battery")
    assert "refused ********" in post_gauge_test(tmp_path).error


@pytest.mark.no_leftovers
def test_process_that_a_probe_leaves_behind_is_ended_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "gauge").write_text("leave_process 300")
    found = post_gauge_test(tmp_path)
    assert (found.message, found.error) == ("left a process behind", "")


def test_probe_that_interrupts_itself_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "gauge").write_text("interrupt")
    error = "The probe's process ended with exit code 1 before it measured."
    assert post_gauge_test(tmp_path).error == error


@pytest.mark.no_leftovers
def test_interrupted_web_worker_leaves_no_process_behind(tmp_path: Path) -> None:
    (tmp_path / "gauge").write_text("sleep 300")

    def interrupt(*_: object) -> None:
        raise TimeoutError("the web worker was told to end")

    started = time.monotonic()
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(TimeoutError, match="told to end"):
            post_gauge_test(tmp_path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert time.monotonic() - started < 20, "the probe has 30 seconds"


def test_sandbox_is_free_again_after_a_test() -> None:
    for _ in range(MAX_SANDBOXES + 1):
        with reserve_sandbox():
            pass
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_SANDBOXES):
            stack.enter_context(reserve_sandbox())
        with pytest.raises(SandboxBusy, match="4 monitors are being tested"), reserve_sandbox():
            pass


class TestOpenTransaction:
    def measure(self) -> Measurement:
        return run_in_sandbox("test_gauge", {"path": "/nonexistent"}, Thresholds(">"), timeout=5)

    def test_is_refused(self) -> None:
        """As in a site's ``TestCase``, where the probe would measure another database."""
        with transaction.atomic(), pytest.raises(OpenTransaction, match="TestCase"):
            self.measure()

    def test_of_a_request_is_allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        with transaction.atomic():
            assert self.measure().error
