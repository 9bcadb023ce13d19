"""Record the pings that outside jobs send to the address of their heartbeat.

Each ping is one short transaction on the row of its heartbeat, so that simultaneous pings are
counted one after the other. The rate limit is kept in the same row, so it holds for all web
workers and hosts together. A request for an unknown address costs one index lookup.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from chroniker.db.transactions import run_transaction
from chroniker_monitors.enums import PingKind, Severity
from chroniker_monitors.models import MonitorState, Probe

from .heartbeats import describe_failure
from .measurement import Measurement, mask_secrets
from .pruning import SAMPLES_BETWEEN_PRUNES, prune_samples
from .recorder import (
    lock_state,
    mask_measurement,
    write_sample,
)

MAX_BODY_BYTES = 10_000
"""The maximum number of bytes of a ping's body that are stored."""
MAX_PINGS_PER_MINUTE = 60
"""The limit of one heartbeat. Further pings are rejected and change nothing."""
MINUTE = timedelta(minutes=1)


class PingResult(Enum):
    """The result of a ping."""

    RECORDED = "recorded"
    """The ping was recorded."""
    NOT_FOUND = "not_found"
    """No heartbeat has this address."""
    RATE_LIMITED = "rate_limited"
    """The heartbeat has had :data:`MAX_PINGS_PER_MINUTE` pings in this minute."""


class PingEvent(Enum):
    """What a ping reports, by its address."""

    SUCCESS = "success"
    START = "start"
    """The job has started; another ping reports how it ends."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping as it was received."""

    event: PingEvent = PingEvent.SUCCESS
    exit_code: int | None = None
    body: bytes = b""

    @property
    def failed(self) -> bool:
        """Whether the job reported a failure, or an exit code other than 0."""
        return self.event is PingEvent.FAIL or bool(self.exit_code)


def record_ping(address: UUID, ping: Ping, *, now: datetime) -> PingResult:
    """Record a ping. Success recovers the heartbeat at once; a failure makes it critical."""
    probe = Probe.objects.select_related("job").filter(ping_uuid=address).first()
    if probe is None or not probe.passive:
        return PingResult.NOT_FOUND

    def write() -> tuple[PingResult, int]:
        state = lock_state(probe.job, "")
        window_columns = _count_ping(state, now)
        row = MonitorState.objects.filter(pk=state.pk)
        if window_columns is None:
            # It is not a sample: subtract what the lock has counted.
            row.update(samples_total=state.samples_total - 1)
            return PingResult.RATE_LIMITED, 0
        if ping.event is PingEvent.START:
            row.update(
                samples_total=state.samples_total - 1, last_ping_started_at=now, **window_columns
            )
            return PingResult.RECORDED, 0
        write_sample(
            probe.job,
            probe,
            state,
            mask_measurement(_measure_ping(state, probe, ping, now).sanitized()),
            now=now,
            extra_columns=_ping_columns(ping, now) | window_columns,
            immediate=True,
        )
        return PingResult.RECORDED, state.samples_total

    result, number = run_transaction(write)
    if number and number % SAMPLES_BETWEEN_PRUNES == 0:
        prune_samples(probe.job, now - timedelta(days=probe.sample_days))
    return result


def _count_ping(state: MonitorState, now: datetime) -> dict[str, object] | None:
    """The columns of the rate limit after one more ping; None if the limit is reached."""
    started_at = state.ping_window_started_at
    # abs(): a ping that waited for the lock may be older than the one recorded before it.
    if started_at is None or abs(now - started_at) >= MINUTE:
        return {"ping_window_started_at": now, "pings_in_window": 1}
    if state.pings_in_window >= MAX_PINGS_PER_MINUTE:
        return None
    return {"pings_in_window": state.pings_in_window + 1}


def _measure_ping(state: MonitorState, probe: Probe, ping: Ping, now: datetime) -> Measurement:
    seconds = _run_duration(state, now)
    if not ping.failed:
        return Measurement(
            Severity.OK,
            value=0.0,
            unit="s",
            latency_seconds=seconds,
            message=_success_message(ping),
        )
    last = state.last_success_ping_at or probe.job.created_at
    return Measurement(
        Severity.CRITICAL,
        value=max(0.0, (now - last).total_seconds()),
        unit="s",
        latency_seconds=seconds,
        message=describe_failure(ping.exit_code, _decode_body(ping.body)),
    )


def _success_message(ping: Ping) -> str:
    return _decode_body(ping.body).strip().partition("\n")[0]


def _run_duration(state: MonitorState, now: datetime) -> float | None:
    """The duration of the job, in seconds, if it reported its start."""
    started_at = state.last_ping_started_at
    if started_at is None or (state.last_ping_at is not None and state.last_ping_at > started_at):
        return None
    return max(0.0, (now - started_at).total_seconds())


def _ping_columns(ping: Ping, now: datetime) -> dict[str, object]:
    extra_columns: dict[str, object] = {
        "last_ping_at": now,
        "last_ping_kind": PingKind.FAIL if ping.failed else PingKind.SUCCESS,
        "last_ping_exit_code": ping.exit_code,
        "last_ping_body": mask_secrets(_decode_body(ping.body)),
    }
    if not ping.failed:
        extra_columns["last_success_ping_at"] = now
    return extra_columns


def _decode_body(body: bytes) -> str:
    return body[:MAX_BODY_BYTES].decode("utf-8", "backslashreplace").replace("\0", "")
