"""The tables of django-celery-beat."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from chroniker.exceptions import ScheduleError
from chroniker.schedules import parse
from chroniker.schedules.cron import Cron

from .definitions import Import, ImportedJob
from .tables import Record, read_table
from .tasks import TaskMap, as_moment, command_line, parse_json

_PREFIX = "django_celery_beat_"
_UNITS = {"days": "d", "hours": "h", "minutes": "m", "seconds": "s"}
_INTERNAL = "celery.backend_cleanup"
_WEEKDAYS = ("SU", "MO", "TU", "WE", "TH", "FR", "SA")


def read_celery_beat(alias: str, tasks: TaskMap, now: datetime) -> Import:
    """Translate the periodic tasks of a database. Raises NoSuchTable."""
    result = Import()
    crontabs = {row["id"]: row for row in read_table(alias, f"{_PREFIX}crontabschedule")}
    intervals = {row["id"]: row for row in read_table(alias, f"{_PREFIX}intervalschedule")}
    for row in read_table(alias, f"{_PREFIX}periodictask"):
        if row["task"] == _INTERNAL:
            continue
        job = _translate(row, crontabs, intervals, tasks, now, result)
        if job is not None:
            result.jobs.append(job)
    return result


def _translate(
    row: Record,
    crontabs: Mapping[object, Record],
    intervals: Mapping[object, Record],
    tasks: TaskMap,
    now: datetime,
    result: Import,
) -> ImportedJob | None:
    name = " ".join(str(row["name"]).split())[:200]
    command = tasks.command_of(name, str(row["task"]), result)
    if not command:
        return None
    schedule: dict[str, object]
    if row["crontab_id"] in crontabs:
        found = _from_crontab(name, crontabs[row["crontab_id"]], result)
        if found is None:
            return None
        schedule = found
    elif row["interval_id"] in intervals:
        found = _from_interval(name, row, intervals[row["interval_id"]], now, result)
        if found is None:
            return None
        schedule = found
    else:
        kind = "a solar event" if row.get("solar_id") else "one fixed time (clocked)"
        result.refuse(name, f"its schedule is {kind}", "Define a job with another schedule.")
        return None
    if row.get("one_off"):
        result.refuse(
            name,
            "it runs once only",
            "Disable the job after its run, or write COUNT=1 into an RRULE.",
        )
    start = as_moment(row.get("start_time"), "UTC")
    if start is not None and start > now:
        result.refuse(
            name,
            f"it does not start before {start:%Y-%m-%d %H:%M}Z",
            "It was created disabled. Enable it then.",
        )
        schedule["enabled"] = False
    args, kwargs = parse_json(row["args"]), parse_json(row["kwargs"])
    expires = row.get("expire_seconds")
    return ImportedJob(
        key=str(row["id"]),
        name=name,
        fields={
            "command": command,
            "args": command_line(
                name,
                args if isinstance(args, list) else [],
                kwargs if isinstance(kwargs, dict) else {},
                result,
            ),
            "description": str(row.get("description") or ""),
            "enabled": bool(row["enabled"]),
            "start_deadline_seconds": expires if isinstance(expires, int) else None,
            **schedule,
        },
    )


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
