"""Read what is usual at the present hour: one query an hour, stored on the state until the next."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from django.db.models import Q

from chroniker.models import Job
from chroniker_monitors.baselines import (
    Histories,
    LocalHour,
    history_from_json,
    history_to_json,
    learn,
)
from chroniker_monitors.models import MonitorState, Sample
from chroniker_monitors.series import WHOLE
from chroniker_monitors.thresholds import Thresholds

MAX_SAMPLES = 50_000
"""The samples of an hour, in all its weeks together, that are read; more than one a second."""


def zone_of(job: Job) -> tzinfo:
    """Return the time zone of a monitor; UTC if it is not valid."""
    try:
        return ZoneInfo(job.timezone)
    except (KeyError, ValueError, OSError):
        return UTC


def local_hour(job: Job, now: datetime) -> LocalHour:
    """Return the present hour in the time zone of the monitor."""
    return LocalHour.of(now, zone_of(job))


def stored_histories(
    job: Job, state: MonitorState, thresholds: Thresholds, now: datetime
) -> tuple[Histories, dict[str, object]]:
    """Return the histories of the present hour, and the columns of the state to write."""
    if not thresholds.learns:
        return {}, {"baseline_hour": "", "baselines": {}}
    key = _hour_key(job, now)
    if state.baseline_hour == key and isinstance(state.baselines, dict):
        stored = state.baselines
        histories: Histories = {name: history_from_json(each) for name, each in stored.items()}
    else:
        histories = read_histories(job, state.host, now)
        stored = _to_json(histories)
    return histories, {"baseline_hour": key, "baselines": stored}


@dataclass(frozen=True, slots=True)
class StoredHour:
    """The hour of which a placement has stored what is usual."""

    job: Job
    host: str
    key: str

    def refresh(self, now: datetime) -> None:
        """Read and store what is usual at the present hour, unless it is stored already.

        For processes of the checks: where many of them are recorded together, it would take long.
        """
        key = _hour_key(self.job, now)
        if key == self.key:
            return
        baselines = _to_json(read_histories(self.job, self.host, now))
        state = MonitorState.objects.filter(job=self.job.pk, host=self.host)
        state.update(baseline_hour=key, baselines=baselines)


def read_stored_hours(placements: Collection[tuple[int, str]]) -> dict[tuple[int, str], StoredHour]:
    """Return the stored hours of monitors, by primary key of the job and placement."""
    jobs = Job.objects.in_bulk({job for job, _ in placements})
    rows = MonitorState.objects.filter(job__in=jobs)
    keys = {(job, host): key for job, host, key in rows.values_list("job", "host", "baseline_hour")}
    return {
        (job, host): StoredHour(jobs[job], host, keys.get((job, host), ""))
        for job, host in placements
        if job in jobs
    }


def _hour_key(job: Job, now: datetime) -> str:
    hour = local_hour(job, now)
    return f"{hour.day} {hour.hour} {job.timezone}"


def _to_json(histories: Histories) -> dict[str, object]:
    return {name: history_to_json(each) for name, each in histories.items()}


def read_histories(job: Job, host: str, now: datetime) -> Histories:
    """Read the samples of the same hour in past weeks, and learn from them."""
    weeks: dict[str, list[list[float]]] = {}
    hour = local_hour(job, now)
    zone = zone_of(job)
    windows = [before.limits(zone) for before in hour.weeks_before()]
    for number, name, value in _values(job, host, windows):
        weeks.setdefault(name, [[] for _ in windows])[number].append(value)
    return {name: learn(values) for name, values in weeks.items()}


def _values(
    job: Job, host: str, windows: list[tuple[datetime, datetime]]
) -> Iterator[tuple[int, str, float]]:
    """Yield the number of the window, the series and the value of each sample."""
    within = Q()
    for begin, end in windows:
        within |= Q(at__gte=begin, at__lt=end)
    rows = (
        Sample.objects.for_placement(job.pk, host)
        .filter(within)
        .order_by()
        .values_list("at", "value", "series")[:MAX_SAMPLES]
    )
    for at, value, series in rows:
        number = next(n for n, (begin, end) in enumerate(windows) if begin <= at < end)
        if series is None:
            if value is not None:
                yield number, WHOLE, value
            continue
        for name, each in series.items():
            if each and each[0] is not None:
                yield number, name, each[0]
