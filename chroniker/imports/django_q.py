"""The table of schedules of django-q2."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from chroniker.exceptions import ScheduleError
from chroniker.schedules import parse

from .definitions import Import, ImportedJob
from .tables import Record, read_table
from .tasks import TaskMap, as_moment, command_line, parse_keywords, parse_literal

TABLE = "django_q_schedule"
_MONTHS = {"M": 1, "BM": 2, "Q": 3, "Y": 12}
_LAST_COMMON_DAY = 28


def read_django_q(alias: str, tasks: TaskMap, now: datetime, zone: str) -> Import:
    """Translate the schedules of a database. ``zone`` is TIME_ZONE of the site.

    Raises NoSuchTable.
    """
    result = Import()
    for row in read_table(alias, TABLE):
        job = _translate(row, tasks, now, zone, result)
        if job is not None:
            result.jobs.append(job)
    return result


def _translate(
    row: Record, tasks: TaskMap, now: datetime, zone: str, result: Import
) -> ImportedJob | None:
    name = " ".join(str(row["name"] or f"{row['func']} #{row['id']}").split())[:200]
    command = tasks.command_of(name, str(row["func"]), result)
    if not command:
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
    args = parse_literal(row["args"])
    if args is not None and not isinstance(args, tuple | list):
        args = (args,)
    kwargs = parse_keywords(row["kwargs"]) if row["kwargs"] else {}
    if row["kwargs"] and not kwargs:
        result.refuse(name, f"its arguments: {row['kwargs']}", "Enter them in the admin.")
    return ImportedJob(
        key=str(row["id"]),
        name=name,
        fields={
            "command": command,
            "args": command_line(name, args or (), kwargs, result),
            "enabled": repeats != 0,
            "timezone": zone,
            **schedule,
        },
    )


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
