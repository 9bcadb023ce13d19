"""The table of schedules of django-q2."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from chroniker.exceptions import ScheduleError
from chroniker.schedules import parse

from .definitions import Import, ImportedJob, UniqueNames
from .tables import Record, read_table
from .tasks import TaskMap, Unreadable, as_moment, parse_keywords, parse_positional, work_fields

TABLE = "django_q_schedule"
_MONTHS = {"M": 1, "BM": 2, "Q": 3, "Y": 12}
_LAST_COMMON_DAY = 28


def read_django_q(alias: str, tasks: TaskMap, now: datetime, zone: str) -> Import:
    """Translate the schedules of a database. ``zone`` is TIME_ZONE of the site.

    Raises NoSuchTable.
    """
    result = Import()
    names = UniqueNames()
    for row in read_table(alias, TABLE):
        name = names.claim(str(row["name"] or f"{row['func']} #{row['id']}"), str(row["id"]))
        job = _translate(name, row, tasks, now, zone, result)
        if job is not None:
            result.jobs.append(job)
    return result


def _translate(
    name: str, row: Record, tasks: TaskMap, now: datetime, zone: str, result: Import
) -> ImportedJob | None:
    work = tasks.name_of(name, str(row["func"]), result)
    if not work:
        return None
    repeats = int(str(row["repeats"]))
    if row["schedule_type"] == "O" or repeats > 0:
        times = "once" if row["schedule_type"] == "O" else f"{repeats} more times"
        result.refuse(name, f"it runs {times} only", "Define it with COUNT in an RRULE.")
        return None
    start = (as_moment(row["next_run"], "UTC") or now).astimezone(ZoneInfo(zone))
    schedule = _schedule(row, start, now)
    try:
        parse(str(schedule["schedule"]), zone=zone)
    except ScheduleError as error:
        result.refuse(name, f"its schedule: {error.reason}", "Define the job in the admin.")
        return None
    if row["hook"]:
        result.refuse(
            name, f"it calls the hook {row['hook']}", "Use CHRONIKER_JOB_ERROR_CALLBACK, or let a "
            "job downstream do it.",
        )  # fmt: skip
    if parameter := row.get("intended_date_kwarg"):
        result.refuse(
            name,
            f"it passes the time it was due as {parameter}",
            "Let the command read the environment variable CHRONIKER_SCHEDULED_FOR.",
        )
    args = _arguments(name, work, row, result)
    return ImportedJob(
        key=str(row["id"]),
        name=name,
        fields={
            **(args or work_fields(name, work, (), {}, result)),
            "enabled": repeats != 0 and args is not None,
            "timezone": zone,
            **schedule,
        },
    )


def _arguments(name: str, work: str, row: Record, result: Import) -> dict[str, object] | None:
    """Return what the job runs, with its arguments; None if these cannot be read."""
    try:
        args, kwargs = parse_positional(row["args"]), parse_keywords(row["kwargs"])
    except Unreadable as error:
        result.refuse_arguments(name, error.text)
        return None
    return work_fields(name, work, args, kwargs, result)


def _schedule(row: Record, start: datetime, now: datetime) -> dict[str, object]:
    """Return the schedule whose times are those of ``next_run`` and its steps, in local time."""
    kind = str(row["schedule_type"])
    at = f"{start.minute} {start.hour}"
    if kind == "C":
        return {"schedule": str(row["cron"])}
    if kind == "I":
        minutes = int(str(row["minutes"] or 1))
        step = timedelta(minutes=minutes)
        last = start - step
        if last < now:
            last += (now - last) // step * step
        return {"schedule": f"@every {minutes}m", "created_at": last}
    if kind == "H":
        return {"schedule": f"{start.minute} * * * *"}
    if kind == "D":
        return {"schedule": f"{at} * * *"}
    if kind == "W":
        return {"schedule": f"{at} * * {start.strftime('%a').upper()}"}
    if kind == "BW":
        rule = f"DTSTART:{start:%Y%m%dT%H%M%S} RRULE:FREQ=WEEKLY;INTERVAL=2"
        return {"schedule": rule}
    step_months = _MONTHS.get(kind, 1)
    months = sorted((start.month - 1 + n * step_months) % 12 + 1 for n in range(12 // step_months))
    field = "*" if step_months == 1 else ",".join(map(str, months))
    # It moves a later day to the last one of a short month, and stays there.
    day = str(start.day) if start.day <= _LAST_COMMON_DAY else "L"
    return {"schedule": f"{at} {day} {field} *"}
