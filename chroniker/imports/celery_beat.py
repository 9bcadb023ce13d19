"""The tables of django-celery-beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from chroniker.exceptions import ScheduleError
from chroniker.schedules import parse
from chroniker.schedules.cron import Cron

from .definitions import Import, ImportedJob, UniqueNames
from .tables import Record, read_table
from .tasks import TaskMap, Unreadable, as_moment, parse_json, work_fields

_PREFIX = "django_celery_beat_"
_UNITS = {"days": "d", "hours": "h", "minutes": "m", "seconds": "s"}
_INTERNAL = "celery.backend_cleanup"
_WEEKDAYS = ("SU", "MO", "TU", "WE", "TH", "FR", "SA")


@dataclass(frozen=True, slots=True)
class _Schedules:
    """The rows of the tables of schedules, by primary key."""

    crontabs: Mapping[object, Record]
    intervals: Mapping[object, Record]


def read_celery_beat(alias: str, tasks: TaskMap, now: datetime) -> Import:
    """Translate the periodic tasks of a database. Raises NoSuchTable."""
    result = Import()
    names = UniqueNames()
    tables = _Schedules(
        {row["id"]: row for row in read_table(alias, f"{_PREFIX}crontabschedule")},
        {row["id"]: row for row in read_table(alias, f"{_PREFIX}intervalschedule")},
    )
    for row in read_table(alias, f"{_PREFIX}periodictask"):
        if row["task"] == _INTERNAL:
            continue
        name = names.claim(str(row["name"]), str(row["id"]))
        job = _translate(name, row, tables, tasks, now, result)
        if job is not None:
            result.jobs.append(job)
    return result


def _translate(
    name: str, row: Record, tables: _Schedules, tasks: TaskMap, now: datetime, result: Import
) -> ImportedJob | None:
    work = tasks.name_of(name, str(row["task"]), result)
    schedule = _schedule(name, row, tables, now, result) if work else None
    if schedule is None:
        return None
    args = _arguments(name, work, row, result)
    ready = _runs_at_each_slot(name, row, now, result)
    expires = row.get("expire_seconds")
    queue = row.get("queue")
    return ImportedJob(
        key=str(row["id"]),
        name=name,
        fields={
            **(args or work_fields(name, work, [], {}, result)),
            "description": str(row.get("description") or ""),
            "enabled": bool(row["enabled"]) and ready and args is not None,
            "start_deadline_seconds": expires if isinstance(expires, int) else None,
            **schedule,
        },
        notes=(f"it used the queue {queue}; a job names one in its field queue",) if queue else (),
    )


def _schedule(
    name: str, row: Record, tables: _Schedules, now: datetime, result: Import
) -> dict[str, object] | None:
    if row["crontab_id"] in tables.crontabs:
        return _from_crontab(name, tables.crontabs[row["crontab_id"]], result)
    if row["interval_id"] in tables.intervals:
        return _from_interval(name, row, tables.intervals[row["interval_id"]], now, result)
    kind = "a solar event" if row.get("solar_id") else "one fixed time (clocked)"
    result.refuse(name, f"its schedule is {kind}", "Define a job with another schedule.")
    return None


def _arguments(name: str, work: str, row: Record, result: Import) -> dict[str, object] | None:
    """Return what the job runs, with its arguments; None if these cannot be read."""
    try:
        args, kwargs = parse_json(row["args"], []), parse_json(row["kwargs"], {})
    except Unreadable as error:
        result.refuse_arguments(name, error.text)
        return None
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        result.refuse_arguments(name, f"{row['args']} {row['kwargs']}")
        return None
    return work_fields(name, work, args, kwargs, result)


def _runs_at_each_slot(name: str, row: Record, now: datetime, result: Import) -> bool:
    """Whether the task runs from now on and for ever, as jobs do; otherwise note what it does."""
    start = as_moment(row.get("start_time"), "UTC")
    end = as_moment(row.get("expires"), "UTC")
    limits = {}
    if row.get("one_off"):
        limits["it runs once only"] = (
            'Choose "Run now" on its page; or give it a schedule that ends, such as '
            "DTSTART:20270131T060000 RRULE:FREQ=DAILY;COUNT=1, and enable it."
        )
    if start is not None and start > now:
        limits[f"it does not start before {_minute(start)}"] = "Enable it then."
    if end is not None and end <= now:
        limits[f"it expired at {_minute(end)}"] = "Delete it, or enable it to run it again."
    elif end is not None:
        limits[f"it expires at {_minute(end)}"] = "Enable it, and disable it at that time."
    for what, remedy in limits.items():
        result.refuse(name, what, f"It was created disabled. {remedy}")
    return not limits


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"


def _from_crontab(name: str, row: Record, result: Import) -> dict[str, object] | None:
    zone = str(row.get("timezone") or "UTC")
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    fields = ["".join(str(row[field]).split()) for field in names]
    text = " ".join(fields)
    try:
        schedule = parse(text, zone=zone)
        assert isinstance(schedule, Cron)
        if schedule.calendar.days.either:  # Celery wants both days to match, cron either
            text = _both_days(schedule)
            parse(text, zone=zone)
    except ScheduleError as error:
        result.refuse(name, f"its schedule: {error.reason}", "Define the job in the admin.")
        return None
    return {"schedule": text, "timezone": zone}


def _both_days(cron: Cron) -> str:
    days = cron.calendar.days
    parts: dict[str, list[object]] = {
        "BYMONTH": [*sorted(days.months)],
        "BYMONTHDAY": [day for day in range(1, 32) if days.days >> day & 1],
        "BYDAY": [_WEEKDAYS[day] for day in sorted(days.weekdays)],
        "BYHOUR": [*cron.calendar.hours],
        "BYMINUTE": [*cron.calendar.minutes],
    }
    if len(parts["BYMONTH"]) == 12:
        del parts["BYMONTH"]
    text = ";".join(f"{key}={','.join(map(str, values))}" for key, values in parts.items())
    return f"RRULE:FREQ=DAILY;{text};BYSECOND=0"


def _from_interval(
    name: str, row: Record, interval: Record, now: datetime, result: Import
) -> dict[str, object] | None:
    unit = _UNITS.get(str(interval["period"]))
    if unit is None:
        result.refuse(
            name, f"it runs every {interval['every']} {interval['period']}",
            "Intervals are whole seconds at least; let the command loop.",
        )  # fmt: skip
        return None
    every = int(str(interval["every"]))
    text = f"@every {every}{unit}"
    step = timedelta(**{str(interval["period"]): every})
    last = as_moment(row.get("last_run_at"), "UTC") or now
    if last < now:
        last += (now - last) // step * step
    return {"schedule": text, "timezone": "UTC", "created_at": last}
