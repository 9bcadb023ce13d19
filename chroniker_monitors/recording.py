"""One sample: what it makes of a monitor's state, its history and its incident, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from chroniker.models import Job
from chroniker.output import Masker
from chroniker.transactions import run_transaction

from . import alerting, heartbeats, measuring
from .exceptions import ParamsInvalid, UnknownKind
from .models import MonitorState, Probe, Sample
from .models.state import RECENT
from .probes import build
from .taken import TEXT_KEPT, Taken, unknown
from .thresholds import Change, Standing, step

PRUNE_EVERY = 100
"""Samples after which old ones are looked for."""
PRUNE_BATCH = 500


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a sample."""

    taken: Taken
    standing: Standing
    change: Change | None


Judge = Callable[[MonitorState], Taken]


def check(
    job: Job, probe: Probe, host: str, *, now: datetime, run_id: int | None = None
) -> Recorded:
    """Measure and record. ``host`` is the host slot."""
    if probe.passive:
        # By the state as it is under the lock: a ping may come at the same moment.
        return record(
            job, probe, "", lambda state: heartbeat(job, probe, state, now), now=now, run_id=run_id
        )
    taken = measure(probe)
    return record(job, probe, host, lambda state: taken, now=now, run_id=run_id)


def look(job: Job, probe: Probe, *, now: datetime) -> Taken:
    """Measure and record nothing."""
    if not probe.passive:
        return measure(probe)
    state = MonitorState.objects.filter(job=job, host="").first() or MonitorState(job=job)
    return heartbeat(job, probe, state, now)


def measure(probe: Probe) -> Taken:
    """Measure what the definition says."""
    return masked(
        measuring.take(
            probe.kind,
            probe.params,
            probe.thresholds,
            timeout=probe.timeout_seconds,
            unit=probe.unit,
        )
    )


def heartbeat(job: Job, probe: Probe, state: MonitorState, now: datetime) -> Taken:
    """What a heartbeat's state says at ``now``."""
    try:
        built: Any = build(probe.kind, probe.params)
    except (UnknownKind, ParamsInvalid) as error:
        return unknown(str(error))
    return heartbeats.read_heartbeat(
        state,
        defined_at=job.created_at,
        limit_seconds=built.period_seconds + built.grace_seconds,
        warning=probe.warning,
        now=now,
    )


def masked(taken: Taken) -> Taken:
    """Without the site's secrets, which an error may well quote."""
    return replace(taken, message=masked_text(taken.message), error=masked_text(taken.error))


def masked_text(text: str) -> str:
    """The same for any text."""
    if not text:
        return text
    from chroniker.starting import site_secrets

    return Masker(site_secrets()).mask_text(text)


def record(
    job: Job,
    probe: Probe,
    host: str,
    judge: Judge,
    *,
    now: datetime,
    run_id: int | None = None,
    facts: dict[str, Any] | None = None,
    at_once: bool = False,
) -> Recorded:
    """Record what ``judge`` makes of the state, which is locked until all is written.

    ``facts`` are further columns of the state. ``at_once``: no other sample is waited for.
    """

    def write() -> tuple[Recorded, int]:
        state = locked_state(job, host)
        return write_sample(
            job, probe, state, judge(state), now=now, run_id=run_id, facts=facts, at_once=at_once
        ), state.samples_total

    recorded, number = run_transaction(write)
    if number % PRUNE_EVERY == 0:
        prune(job, now - timedelta(days=probe.sample_days))
    return recorded


def locked_state(job: Job, host: str) -> MonitorState:
    """The state of a host slot, locked by a write (which SQLite needs first), made if missing."""
    mine = MonitorState.objects.filter(job=job, host=host)
    if not mine.update(samples_total=F("samples_total") + 1):
        try:
            with transaction.atomic():
                return MonitorState.objects.create(job=job, host=host, samples_total=1)
        except IntegrityError:  # somebody else was first, or the monitor has been deleted
            if not mine.update(samples_total=F("samples_total") + 1):
                raise
    return mine.get()


def write_sample(
    job: Job,
    probe: Probe,
    state: MonitorState,
    taken: Taken,
    *,
    now: datetime,
    run_id: int | None = None,
    facts: dict[str, Any] | None = None,
    at_once: bool = False,
) -> Recorded:
    """Write a sample whose state is locked, in the caller's transaction."""
    alone = at_once or probe.passive
    standing, change = step(
        state.standing,
        taken.severity,
        consecutive=1 if alone else probe.consecutive,
        recovery=1 if alone else probe.recovery,
    )
    MonitorState.objects.filter(pk=state.pk).update(
        severity=standing.severity,
        toward_warning=standing.toward_warning,
        toward_unknown=standing.toward_unknown,
        toward_critical=standing.toward_critical,
        since=now if change or state.since is None else state.since,
        value=taken.value,
        measured=taken.severity,
        message=taken.message[:TEXT_KEPT],
        error=taken.error[:TEXT_KEPT],
        unit=taken.unit[:20] or state.unit,
        latency_seconds=taken.latency_seconds,
        last_sample_at=now,
        last_run_id=run_id,
        recent=[*state.recent, [taken.value, int(taken.severity)]][-RECENT:],
        **(facts or {}),
    )
    Sample.objects.create(
        job=job,
        host=state.host,
        at=now,
        value=taken.value,
        severity=taken.severity,
        latency_seconds=taken.latency_seconds,
        message=taken.message[:TEXT_KEPT],
        error=taken.error[:TEXT_KEPT],
    )
    told = change or alerting.untold(job, state.host, standing.severity, taken.severity)
    if told:
        alerting.tell(job, probe, state.host, told, taken, now, run_id)
    return Recorded(taken, standing, change)


def prune(job: Job, before: datetime) -> int:
    """Delete samples older than ``before`` in small transactions; how many.

    On every host slot that the monitor has had: nobody else looks after a host that is gone.
    """
    deleted = 0
    for host in MonitorState.objects.filter(job=job).values_list("host", flat=True):
        old = Sample.objects.of(job.pk, host).older_than(before).order_by("at")
        while keys := list(old.values_list("pk", flat=True)[:PRUNE_BATCH]):
            Sample.objects.filter(pk__in=keys).delete()
            deleted += len(keys)
    return deleted
