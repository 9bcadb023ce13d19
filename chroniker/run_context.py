"""What a job's process knows about its run: the environment, and :func:`current_run`.

The environment is the same for management commands and raw commands, forked and spawned, and is
inherited by whatever the job starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from .enums import Trigger

RUN_ID_VARIABLE = "CHRONIKER_RUN_ID"
JOB_NAME_VARIABLE = "CHRONIKER_JOB_NAME"
SCHEDULED_FOR_VARIABLE = "CHRONIKER_SCHEDULED_FOR"
ATTEMPT_VARIABLE = "CHRONIKER_ATTEMPT"
TRIGGER_VARIABLE = "CHRONIKER_TRIGGER"
FENCE_VARIABLE = "CHRONIKER_FENCE"
TRACEPARENT_VARIABLE = "TRACEPARENT"
"""Not ours: OpenTelemetry's name for the trace context in an environment."""


@dataclass(frozen=True, slots=True)
class CurrentRun:
    """The run in whose process this code runs."""

    run_id: int
    """Primary key of the run."""
    job_name: str
    scheduled_for: datetime
    """The slot, UTC: what the run is for, however late it started."""
    attempt: int
    """1, and one more for each retry and each restart of the same slot."""
    trigger: Trigger
    fence: int
    """The fencing number: larger in each later run of the job (on the same host, for a job that
    runs on every host)."""
    traceparent: str = ""
    """The trace context of the run's span (W3C Trace Context); empty if the run is not traced."""

    def environment(self) -> dict[bytes, bytes]:
        """The environment variables. Bytes, because the locale may not know the name's letters."""
        values = {
            RUN_ID_VARIABLE: str(self.run_id),
            JOB_NAME_VARIABLE: self.job_name,
            SCHEDULED_FOR_VARIABLE: utc_text(self.scheduled_for),
            ATTEMPT_VARIABLE: str(self.attempt),
            TRIGGER_VARIABLE: str(self.trigger),
            FENCE_VARIABLE: str(self.fence),
        }
        if self.traceparent:
            values[TRACEPARENT_VARIABLE] = self.traceparent
        return {name.encode(): _to_bytes(value) for name, value in values.items()}

    @classmethod
    def from_environment(cls) -> Self | None:
        """The run that the environment describes; None outside a run."""
        from .enums import Trigger

        try:
            return cls(
                run_id=int(os.environ[RUN_ID_VARIABLE]),
                job_name=os.environb[JOB_NAME_VARIABLE.encode()].decode("utf-8", "replace"),
                scheduled_for=datetime.fromisoformat(os.environ[SCHEDULED_FOR_VARIABLE]),
                attempt=int(os.environ[ATTEMPT_VARIABLE]),
                trigger=Trigger(os.environ[TRIGGER_VARIABLE]),
                fence=int(os.environ[FENCE_VARIABLE]),
                traceparent=os.environ.get(TRACEPARENT_VARIABLE, ""),
            )
        except (KeyError, ValueError):
            return None


def utc_text(moment: datetime) -> str:
    """ISO 8601 in UTC, with a Z: ``2026-05-04T12:00:00Z``."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _to_bytes(value: str) -> bytes:
    return value.encode("utf-8", "backslashreplace").replace(b"\0", b"")


_current: CurrentRun | None = None
_searched = False


def attach(run: CurrentRun) -> None:
    """Make ``run`` the current run of this process and of those that it starts."""
    global _current, _searched
    os.environb.update(run.environment())
    _current, _searched = run, True


@contextmanager
def attached(run: CurrentRun) -> Iterator[None]:
    """Make ``run`` the current run for a while, for a run in this process."""
    global _current, _searched
    before = _current, _searched
    outer = {name: os.environb.get(name) for name in run.environment()}
    attach(run)
    try:
        yield
    finally:
        _current, _searched = before
        for name, value in outer.items():
            if value is None:
                os.environb.pop(name, None)
            else:
                os.environb[name] = value


def current_run() -> CurrentRun | None:
    """The run in whose process this code runs; None outside a run.

    The environment is read once, so a call takes less than a microsecond.
    """
    global _current, _searched
    if not _searched:
        _current, _searched = CurrentRun.from_environment(), True
    return _current
