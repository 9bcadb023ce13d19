"""What an outside job tells by fetching the address of its heartbeat.

Each ping is one short transaction on the heartbeat's own row, so that pings at the same moment
are counted one after the other. The limit on them is kept there, too: it holds for all web
workers and hosts together, and a caller who knows no address costs one look into an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from chroniker.transactions import run_transaction

from .enums import PingKind, Severity
from .heartbeats import told_failure
from .models import MonitorState, Probe
from .recording import PRUNE_EVERY, locked_state, masked, masked_text, prune, write_sample
from .taken import Taken

BODY_KEPT = 10_000
"""Bytes of what is sent with a ping."""
PINGS_A_MINUTE = 60
"""Of one heartbeat; what comes beyond is refused and changes nothing."""
MINUTE = timedelta(minutes=1)


class Answer(Enum):
    """What becomes of a ping."""

    TAKEN = "taken"
    """It was recorded."""
    NOBODYS = "nobody's"
    """No heartbeat has this address."""
    TOO_MANY = "too many"
    """The heartbeat has had all pings that a minute may bring."""


@dataclass(frozen=True, slots=True)
class Ping:
    """One ping."""

    exit_code: int | None = None
    failed: bool = False
    started: bool = False
    """The job has begun; how it ends is told by another ping."""
    body: bytes = b""


def receive(address: UUID, ping: Ping, *, now: datetime) -> Answer:
    """Take a ping: a good one recovers its heartbeat at once, a failure makes it critical."""
    probe = Probe.objects.select_related("job").filter(ping_uuid=address).first()
    if probe is None or not probe.passive:
        return Answer.NOBODYS

    def write() -> tuple[Answer, int]:
        state = locked_state(probe.job, "")
        window = _window(state, now)
        mine = MonitorState.objects.filter(pk=state.pk)
        if window is None:
            # It was no sample: what the lock has counted is taken back.
            mine.update(samples_total=state.samples_total - 1)
            return Answer.TOO_MANY, 0
        if ping.started:
            mine.update(samples_total=state.samples_total - 1, last_ping_started_at=now, **window)
            return Answer.TAKEN, 0
        write_sample(
            probe.job,
            probe,
            state,
            masked(_taken(state, probe, ping, now).storable()),
            now=now,
            facts=_facts(ping, now) | window,
            at_once=True,
        )
        return Answer.TAKEN, state.samples_total

    answer, number = run_transaction(write)
    if number and number % PRUNE_EVERY == 0:
        prune(probe.job, now - timedelta(days=probe.sample_days))
    return answer


def _window(state: MonitorState, now: datetime) -> dict[str, Any] | None:
    """The columns of the limit after one more ping, None where it is one too many."""
    began = state.ping_window_at
    # Not "before it began": one that waited for the lock has an older time than the one before.
    if began is None or abs(now - began) >= MINUTE:
        return {"ping_window_at": now, "pings_in_window": 1}
    if state.pings_in_window >= PINGS_A_MINUTE:
        return None
    return {"pings_in_window": state.pings_in_window + 1}


def _taken(state: MonitorState, probe: Probe, ping: Ping, now: datetime) -> Taken:
    seconds = _seconds(state, now)
    if not ping.failed:
        return Taken(Severity.OK, value=0.0, unit="s", latency_seconds=seconds, message=_ok(ping))
    last = state.last_good_ping_at or probe.job.created_at
    said = _text(ping.body).strip()
    return Taken(
        Severity.CRITICAL,
        value=max(0.0, (now - last).total_seconds()),
        unit="s",
        latency_seconds=seconds,
        message=": ".join(part for part in (told_failure(ping.exit_code), said) if part),
    )


def _ok(ping: Ping) -> str:
    return _text(ping.body).strip().partition("\n")[0]


def _seconds(state: MonitorState, now: datetime) -> float | None:
    """How long the job took, where it told that it began."""
    began = state.last_ping_started_at
    if began is None or (state.last_ping_at is not None and state.last_ping_at > began):
        return None
    return max(0.0, (now - began).total_seconds())


def _facts(ping: Ping, now: datetime) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "last_ping_at": now,
        "last_ping_kind": PingKind.FAIL if ping.failed else PingKind.SUCCESS,
        "last_ping_exit_code": ping.exit_code,
        "last_ping_body": masked_text(_text(ping.body)),
    }
    if not ping.failed:
        facts["last_good_ping_at"] = now
    return facts


def _text(body: bytes) -> str:
    return body[:BODY_KEPT].decode("utf-8", "backslashreplace").replace("\0", "")
