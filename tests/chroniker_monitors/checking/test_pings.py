"""Heartbeats: pings of external jobs, and missing pings."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.urls import get_resolver
from django.utils.timezone import now as utc_now

from chroniker_monitors.checking.pings import (
    MAX_BODY_BYTES,
    MAX_PINGS_PER_MINUTE,
    Ping,
    PingEvent,
    PingResult,
    record_ping,
)
from chroniker_monitors.checking.pruning import SAMPLES_BETWEEN_PRUNES
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Probe, Sample
from tests.factories import NOON, make_heartbeat_monitor, make_monitor, monitor_state

pytestmark = pytest.mark.django_db


def address(monitor: Monitor, suffix: str = "") -> str:
    return f"/ping/{monitor.probe.ping_uuid}/{suffix}"


def check(monitor: Monitor) -> Severity:
    with pytest.raises(SystemExit):
        call_command("check_monitor", monitor.name, stdout=StringIO())
    return Severity(monitor_state(monitor).severity)


def later(seconds: float) -> Any:
    return time_machine.travel(utc_now() + timedelta(seconds=seconds), tick=True)


@pytest.mark.parametrize("method", ["get", "head", "post"])
def test_success_ping_is_accepted_by_each_method(client: Client, method: str) -> None:
    monitor = make_heartbeat_monitor()
    response = getattr(client, method)(address(monitor))
    assert response.status_code == 200
    assert response.content == (b"" if method == "head" else b"ok")
    state = monitor_state(monitor)
    assert (state.last_ping_kind, state.severity) == ("success", Severity.OK)
    assert state.last_success_ping_at is not None
    assert Sample.objects.count() == 1


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_other_methods_change_nothing(client: Client, method: str) -> None:
    monitor = make_heartbeat_monitor()
    assert getattr(client, method)(address(monitor)).status_code == 405
    assert not MonitorState.objects.exists()


def test_ping_requires_no_cookie_and_no_csrf_token() -> None:
    monitor = make_heartbeat_monitor()
    response = Client(enforce_csrf_checks=True).post(address(monitor), b"x", "text/plain")
    assert response.status_code == 200
    assert not response.cookies
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize(("suffix", "code"), [("fail", None), ("1", 1), ("137", 137), ("255", 255)])
def test_failure_ping_is_critical_at_once(client: Client, suffix: str, code: int | None) -> None:
    monitor = make_heartbeat_monitor(consecutive=5)
    client.get(address(monitor))
    client.post(address(monitor, suffix), b"disk full\n", "text/plain")
    state = monitor_state(monitor)
    assert (state.severity, state.last_ping_exit_code) == (Severity.CRITICAL, code)
    assert "disk full" in state.message
    assert check(monitor) is Severity.CRITICAL  # until the next ping


@pytest.mark.parametrize("suffix", ["", "0"])
def test_success_ping_recovers_at_once(client: Client, suffix: str) -> None:
    monitor = make_heartbeat_monitor(recovery=5)
    client.get(address(monitor, "fail"))
    client.get(address(monitor, suffix))
    assert monitor_state(monitor).severity == Severity.OK
    assert check(monitor) is Severity.OK


def test_missing_ping_is_critical_after_period_and_grace(client: Client) -> None:
    monitor = make_heartbeat_monitor(period=1000, grace=500)
    assert check(monitor) is Severity.OK
    client.get(address(monitor))
    with later(1400):
        assert check(monitor) is Severity.OK
    with later(1500 + 4500):
        assert check(monitor) is Severity.CRITICAL
        assert "late by 1:1" in monitor_state(monitor).message
        client.get(address(monitor))
        assert check(monitor) is Severity.OK


def test_heartbeat_that_was_never_pinged_becomes_late() -> None:
    monitor = make_heartbeat_monitor(period=100, grace=50)
    with later(200):
        assert check(monitor) is Severity.CRITICAL
    assert monitor_state(monitor).message.startswith("no ping yet")


def test_start_ping_records_no_sample_and_gives_the_duration(client: Client) -> None:
    monitor = make_heartbeat_monitor()
    client.get(address(monitor, "start"))
    state = monitor_state(monitor)
    assert (state.samples_total, state.last_ping_kind) == (0, "")
    assert not Sample.objects.exists()
    with later(30):
        client.get(address(monitor))
    latency = monitor_state(monitor).latency_seconds
    assert latency is not None
    assert 29 < latency < 90
    client.get(address(monitor))
    assert (
        monitor_state(monitor).latency_seconds is None
    )  # without a start ping there is no duration


def test_ping_body_is_cut_to_ten_kilobytes(client: Client) -> None:
    monitor = make_heartbeat_monitor()
    client.post(address(monitor), b"a\0" + b"\xff" + b"x" * 100_000, "application/octet-stream")
    body = monitor_state(monitor).last_ping_body
    assert body.startswith("a\\xffxxx")
    assert len(body) == MAX_BODY_BYTES - 2 + len("\\xff")


def test_form_body_is_stored_unchanged(client: Client) -> None:
    monitor = make_heartbeat_monitor()
    client.post(address(monitor), "rows=3", content_type="application/x-www-form-urlencoded")
    assert monitor_state(monitor).last_ping_body == "rows=3"


def test_secret_in_the_ping_body_is_masked(client: Client, settings: Any) -> None:
    settings.BACKUP_PASSWORD = "hunter2hunter2"
    monitor = make_heartbeat_monitor()
    client.post(address(monitor, "fail"), b"login hunter2hunter2 refused", "text/plain")
    state = monitor_state(monitor)
    assert "hunter2" not in state.last_ping_body + state.message


def test_ping_url_reveals_nothing(client: Client) -> None:
    disk, other = make_monitor(), uuid.uuid4()
    Probe.objects.filter(job=disk).update(ping_uuid=other)  # of a kind without pings
    elsewhere = client.get("/no-such-page/")
    for unknown in (
        f"/ping/{uuid.uuid4()}/", f"/ping/{uuid.uuid4()}/start", f"/ping/{other}/",
        f"/ping/{uuid.uuid4()}/7", f"/ping/{other}/256", "/ping/1/", "/ping/",
    ):  # fmt: skip
        for method in (client.get, client.post):
            answer = method(unknown)
            assert answer.status_code == elsewhere.status_code == 404
            assert answer.content.replace(unknown.encode(), b"") == elsewhere.content.replace(
                b"/no-such-page/", b""
            )
    assert not MonitorState.objects.exists()


@pytest.mark.parametrize("suffix", ["256", "999999999999999999999", "-1", "start/", "stop", "0x1"])
def test_other_paths_are_not_found(client: Client, suffix: str) -> None:
    monitor = make_heartbeat_monitor()
    assert client.get(address(monitor, suffix)).status_code == 404
    assert not MonitorState.objects.exists()


def test_excess_pings_are_rejected_and_change_nothing(client: Client) -> None:
    monitor = make_heartbeat_monitor()
    now = utc_now()
    MonitorState.objects.create(
        job_id=monitor.pk, ping_window_started_at=now, pings_in_window=MAX_PINGS_PER_MINUTE - 1
    )
    assert client.get(address(monitor)).status_code == 200
    for suffix in ("", "fail", "start"):
        assert client.get(address(monitor, suffix)).status_code == 429
    state = monitor_state(monitor)
    assert (state.severity, state.samples_total) == (Severity.OK, 1)
    assert client.get(address(make_heartbeat_monitor())).status_code == 200  # each has its own
    with later(61):
        assert client.get(address(monitor)).status_code == 200


def test_ping_costs_few_queries(client: Client, django_assert_max_num_queries: Any) -> None:
    monitor = make_heartbeat_monitor()
    client.get(address(monitor))
    with django_assert_max_num_queries(7):  # with the savepoint around them in a test
        client.get(address(monitor))


def test_saving_a_monitor_keeps_its_ping_url() -> None:
    monitor = make_heartbeat_monitor()
    before = monitor.probe.ping_uuid
    monitor.save_with_probe(monitor.probe)
    assert Probe.objects.get().ping_uuid == before is not None


@pytest.mark.django_db(transaction=True)
def test_fifty_concurrent_pings_are_all_counted() -> None:
    monitor = make_heartbeat_monitor()
    path = address(monitor)

    def ping(number: int) -> int:
        try:
            return Client().get(path).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(ping, range(50))) == {200}
    assert monitor_state(monitor).samples_total == 50
    assert Sample.objects.count() == 50
    assert monitor_state(monitor).pings_in_window == 50


def test_ping_url_has_a_name() -> None:
    names = {key for key in get_resolver("chroniker_monitors.urls").reverse_dict if key}
    assert {"ping", "ping_start", "ping_fail", "ping_exit_code"} <= names


# --- without requests ---

SECOND = timedelta(seconds=1)
START, FAIL = Ping(PingEvent.START), Ping(PingEvent.FAIL)


def send(monitor: Monitor, ping: Ping | None = None, seconds: float = 0) -> PingResult:
    """Record a ping (by default a success) this many seconds after noon."""
    address = monitor.probe.ping_uuid
    assert address is not None
    return record_ping(address, ping or Ping(), now=NOON + seconds * SECOND)


@pytest.mark.parametrize(
    ("ping", "failed"),
    [
        (Ping(), False),
        (Ping(exit_code=0), False),
        (Ping(exit_code=1), True),
        (START, False),
        (FAIL, True),
        (Ping(PingEvent.FAIL, exit_code=0), True),
    ],
)
def test_failure_and_exit_codes_other_than_zero_are_failures(ping: Ping, failed: bool) -> None:
    assert ping.failed is failed


def test_success_is_recorded_with_the_first_line_of_its_body() -> None:
    monitor = make_heartbeat_monitor()
    assert send(monitor, Ping(body=b"\n 3 rows \nmore")) is PingResult.RECORDED
    state = monitor_state(monitor)
    assert (state.value, state.unit, state.message) == (0.0, "s", "3 rows ")
    assert (state.last_ping_at, state.last_success_ping_at) == (NOON, NOON)
    assert (state.last_ping_exit_code, state.last_ping_body) == (None, "\n 3 rows \nmore")
    assert (state.last_sample_at, state.last_run_id) == (NOON, None)


def test_failure_is_as_old_as_the_last_success() -> None:
    monitor = make_heartbeat_monitor()
    send(monitor)
    send(monitor, Ping(exit_code=3, body=b"disk full\n"), 30)
    state = monitor_state(monitor)
    assert (state.value, state.unit) == (30.0, "s")
    assert state.message == "the job ended with exit code 3: disk full"
    assert (state.last_ping_at, state.last_success_ping_at) == (NOON + 30 * SECOND, NOON)
    send(monitor, FAIL, 20)  # it waited for the lock
    assert monitor_state(monitor).message == "the job reported a failure"
    assert monitor_state(monitor).value == 20.0


def test_first_failure_is_as_old_as_the_monitor() -> None:
    monitor = make_heartbeat_monitor(created_at=NOON - 90 * SECOND)
    send(monitor, FAIL)
    assert monitor_state(monitor).value == 90.0
    send(monitor, FAIL, -100)
    assert monitor_state(monitor).value == 0.0


@pytest.mark.parametrize("ending", [Ping(), FAIL])
def test_duration_is_counted_from_the_last_start(ending: Ping) -> None:
    monitor = make_heartbeat_monitor()
    send(monitor, START)
    send(monitor, START, 10)
    send(monitor, ending, 25)
    assert monitor_state(monitor).latency_seconds == 15.0
    send(monitor, ending, 30)
    assert monitor_state(monitor).latency_seconds is None
    send(monitor, START, 40)
    send(monitor, ending, 40)
    assert monitor_state(monitor).latency_seconds == 0.0


def test_start_changes_nothing_but_its_moment() -> None:
    monitor = make_heartbeat_monitor()
    send(monitor)
    before = MonitorState.objects.values().get()
    assert send(monitor, START, 5) is PingResult.RECORDED
    changed = {"last_ping_started_at": NOON + 5 * SECOND, "pings_in_window": 2}
    assert MonitorState.objects.values().get() == before | changed


def test_unknown_address_and_active_probe_are_not_found() -> None:
    assert record_ping(uuid.uuid4(), Ping(), now=NOON) is PingResult.NOT_FOUND
    monitor, address = make_monitor(), uuid.uuid4()
    Probe.objects.filter(job=monitor).update(ping_uuid=address)
    assert record_ping(address, Ping(), now=NOON) is PingResult.NOT_FOUND


def test_sixty_pings_a_minute_are_recorded() -> None:
    monitor = make_heartbeat_monitor()
    send(monitor)
    MonitorState.objects.update(pings_in_window=MAX_PINGS_PER_MINUTE - 1)
    assert send(monitor, seconds=59) is PingResult.RECORDED
    before = MonitorState.objects.values().get()
    assert send(monitor, seconds=59.9) is PingResult.RATE_LIMITED
    assert send(monitor, FAIL, 59.9) is PingResult.RATE_LIMITED
    assert MonitorState.objects.values().get() == before
    assert send(monitor, seconds=60) is PingResult.RECORDED
    state = monitor_state(monitor)
    assert (state.ping_window_started_at, state.pings_in_window) == (NOON + 60 * SECOND, 1)


def test_ping_long_before_the_window_begins_another() -> None:
    """The clock was set back."""
    monitor = make_heartbeat_monitor()
    send(monitor)
    send(monitor, seconds=-3600)
    assert monitor_state(monitor).ping_window_started_at == NOON - 3600 * SECOND


@pytest.mark.parametrize(
    ("ping", "samples", "deleted"),
    [
        (Ping(), SAMPLES_BETWEEN_PRUNES - 1, True),
        (Ping(), SAMPLES_BETWEEN_PRUNES - 2, False),
        (START, SAMPLES_BETWEEN_PRUNES - 1, False),
    ],
)
def test_old_samples_are_deleted_after_every_hundred_pings(
    ping: Ping, samples: int, deleted: bool
) -> None:
    monitor = make_heartbeat_monitor(sample_days=2)
    MonitorState.objects.create(job_id=monitor.pk, samples_total=samples)
    for days, number in ((1, 1), (3, 2)):
        Sample.objects.create(
            job_id=monitor.pk, at=NOON - timedelta(days=days), severity=0, value=number
        )
    send(monitor, ping)
    assert Sample.objects.filter(value=1).exists()
    assert Sample.objects.filter(value=2).exists() is not deleted
