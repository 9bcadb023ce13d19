"""How late a heartbeat is, computed from its last ping."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroniker.models import Job
from chroniker_monitors.checking.heartbeats import evaluate_heartbeat, measure_heartbeat
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.enums import PingKind, Severity
from chroniker_monitors.models import MonitorState, Probe

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def evaluate(
    since_ping: float | None,
    *,
    since_definition: float = 10_000,
    limit: float = 660,
    warning: float | None = None,
    **state: object,
) -> Measurement:
    """Evaluate a heartbeat at noon: last pinged this many seconds ago, or never (None)."""
    pinged_at = None if since_ping is None else NOON - timedelta(seconds=since_ping)
    return evaluate_heartbeat(
        MonitorState(last_success_ping_at=pinged_at, **state),
        defined_at=NOON - timedelta(seconds=since_definition),
        limit_seconds=limit,
        warning=warning,
        now=NOON,
    )


@pytest.mark.parametrize(
    ("since_ping", "severity", "message"),
    [
        (0, Severity.OK, "last ping 0:00:00 ago"),
        (660, Severity.OK, "last ping 0:11:00 ago"),
        (661, Severity.CRITICAL, "last ping 0:11:01 ago, late by 0:00:01"),
    ],
)
def test_critical_after_period_and_grace(
    since_ping: float, severity: Severity, message: str
) -> None:
    found = evaluate(since_ping)
    assert (found.value, found.severity, found.message) == (since_ping, severity, message)


def test_before_the_first_ping_age_counts_from_the_definition() -> None:
    found = evaluate(None, since_definition=700)
    assert (found.value, found.severity) == (700, Severity.CRITICAL)
    assert found.message == "no ping yet, late by 0:00:40"
    assert evaluate(None, since_definition=5).severity is Severity.OK


@pytest.mark.parametrize(
    ("exit_code", "message"),
    [(None, "the job reported a failure"), (3, "the job ended with exit code 3")],
)
def test_failure_is_critical_before_it_is_late(exit_code: int | None, message: str) -> None:
    found = evaluate(10, last_ping_kind=PingKind.FAIL, last_ping_exit_code=exit_code)
    assert (found.severity, found.message) == (Severity.CRITICAL, message)


def test_failure_keeps_the_text_that_was_sent() -> None:
    found = evaluate(10, last_ping_kind=PingKind.FAIL, last_ping_body="disk full\n")
    assert found.message == "the job reported a failure: disk full"
    late = evaluate(700, last_ping_kind=PingKind.FAIL, last_ping_body="disk full")
    assert late.message == "the job reported a failure: disk full, late by 0:00:40"


@given(st.floats(-1e6, 1e9), st.floats(1, 1e8))
def test_age_is_never_negative(since_ping: float, limit: float) -> None:
    found = evaluate(since_ping, limit=limit)
    assert found.value is not None
    assert 0 <= found.value <= max(since_ping, 0) + 1e-3
    assert (found.severity is Severity.CRITICAL) == (found.value > limit)


@pytest.mark.parametrize(
    ("since_ping", "severity"),
    [
        (600, Severity.OK),
        (601, Severity.WARNING),
        (660, Severity.WARNING),
        (661, Severity.CRITICAL),
    ],
)
def test_age_above_the_warning_threshold_is_a_warning(
    since_ping: float, severity: Severity
) -> None:
    found = evaluate(since_ping, warning=600)
    assert (found.severity, found.unit, found.error) == (severity, "s", "")


def test_failure_that_is_late_says_both() -> None:
    found = evaluate(700, last_ping_kind=PingKind.FAIL)
    assert found.message == "the job reported a failure, late by 0:00:40"
    found = evaluate(None, since_definition=10, last_ping_kind=PingKind.FAIL)
    assert (found.value, found.message) == (10, "the job reported a failure")


def test_success_after_a_failure_counts() -> None:
    assert evaluate(10, last_ping_kind=PingKind.SUCCESS).severity is Severity.OK


def test_ages_in_messages_are_whole_seconds() -> None:
    assert evaluate(59.6).message == "last ping 0:01:00 ago"
    assert evaluate(660.6).message == "last ping 0:11:01 ago, late by 0:00:01"


@pytest.mark.parametrize(
    "invalid", [{"kind": "gone"}, {"params": {"period_seconds": -1}}], ids=["kind", "params"]
)
def test_heartbeat_with_invalid_parameters_is_unknown(invalid: dict[str, object]) -> None:
    probe = Probe(**{"kind": "heartbeat", "params": {}} | invalid)
    found = measure_heartbeat(Job(created_at=NOON), probe, MonitorState(), NOON)
    assert found.severity is Severity.UNKNOWN and found.error


def test_heartbeat_is_late_after_its_period_and_its_grace() -> None:
    probe = Probe(
        kind="heartbeat", params={"period_seconds": 100, "grace_seconds": 50}, warning=120
    )

    def severity(seconds: float) -> Severity:
        now = NOON + timedelta(seconds=seconds)
        return measure_heartbeat(Job(created_at=NOON), probe, MonitorState(), now).severity

    found = [severity(seconds) for seconds in (120, 121, 150, 151)]
    assert found == [Severity.OK, Severity.WARNING, Severity.WARNING, Severity.CRITICAL]
