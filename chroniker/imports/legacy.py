"""Translate a dump of django-chroniker to jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from chroniker.enums import RunStatus

from .call_arguments import as_command_line
from .definitions import (
    Import,
    ImportedDependency,
    ImportedJob,
    ImportedMonitor,
    ImportedRun,
    UniqueNames,
)
from .dump import Dump, Row
from .rrule_params import NotConvertible, convert

DEFAULT_TEMPLATE_MARK = "has indicated a problem."
"""In the text that django-chroniker itself gives to each monitor."""

_MONITOR_SECONDS = 300
"""The time limit of a monitor that had none; the default of a probe is meant for measurements."""
_MAX_MONITOR_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Users:
    """The users of the site: their primary keys, of whatever type the user model has."""

    by_key: Mapping[str, Any]
    by_name: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """What the translation needs to know about the site."""

    now: datetime
    timezone: str
    """The time zone of times without one: of a site that had ``USE_TZ = False``."""
    users: Users
    history: bool = True


def translate(dump: Dump, site: Site) -> Import:
    """Translate all rows; what cannot be taken over is a problem of the result."""
    result = Import()
    rows = _distinct_rows(dump, result)
    names = _unique_names(rows)
    logs: dict[str, list[Row]] = {}
    for log in dump.logs if site.history else []:
        logs.setdefault(log.reference("job"), []).append(log)
    upstream = _dependencies(dump, names, result)
    for row in rows:
        job = _Translator(row, names[row.key], site, result).translate()
        if job is None:
            continue
        result.jobs.append(
            ImportedJob(
                key=row.key,
                name=job.name,
                fields=job.fields,
                subscribers=_subscribers(row, job.name, dump, site, result),
                upstream=tuple(upstream.get(row.key, ())),
                runs=tuple(_run(log, site) for log in logs.get(row.key, ())),
                last_run=_last_run(row, site),
                monitor=job.monitor,
                notes=job.notes,
            )
        )
    return result


def _distinct_rows(dump: Dump, result: Import) -> list[Row]:
    """Leave out jobs whose key another one has: by natural keys, two jobs of one name are one."""
    rows: dict[str, Row] = {}
    for row in dump.jobs:
        if rows.setdefault(row.key, row) is not row:
            result.refuse(
                row.text("name"),
                "another job of the dump has the same key",
                "Dump without --natural-primary and --natural-foreign.",
            )
    return list(rows.values())


def _unique_names(rows: list[Row]) -> dict[str, str]:
    """Names are unique here: the second job of a name gets its key appended."""
    names = UniqueNames()
    return {
        row.key: names.claim(row.text("name").strip() or f"job {row.key}", row.key) for row in rows
    }


def _dependencies(
    dump: Dump, names: Mapping[str, str], result: Import
) -> dict[str, list[ImportedDependency]]:
    found: dict[str, list[ImportedDependency]] = {}
    for row in dump.dependencies:
        downstream, upstream = row.reference("dependent"), row.reference("dependee")
        if downstream not in names or upstream not in names or downstream == upstream:
            result.refuse(
                names.get(downstream, f"dependency {row.key}"),
                f"it waits for job {names.get(upstream, upstream)}, which is "
                + ("itself" if downstream == upstream else "not in the dump"),
                "Dump all jobs, or define the dependency in the admin.",
            )
            continue
        found.setdefault(downstream, []).append(
            ImportedDependency(
                upstream,
                wait_for_completion=row.flag("wait_for_completion", default=True),
                wait_for_success=row.flag("wait_for_success", default=True),
                wait_for_next_run=row.flag("wait_for_next_run", default=True),
            )
        )
    return found


def _subscribers(row: Row, job: str, dump: Dump, site: Site, result: Import) -> tuple[Any, ...]:
    keys = row.fields.get("subscribers")
    found = []
    for value in keys if isinstance(keys, list) else []:
        name = str(value[0]) if isinstance(value, list) and value else None
        name = dump.user_names.get(str(value)) if name is None else name
        # A dump without users is one of this database, so its keys are valid here.
        user = site.users.by_key.get(str(value)) if name is None else site.users.by_name.get(name)
        if user is None:
            result.refuse(
                job,
                f"its subscriber {name or value} does not exist here",
                "Create the user, or subscribe somebody else in the admin.",
            )
        else:
            found.append(user)
    return tuple(found)


def _run(log: Row, site: Site) -> ImportedRun:
    status = RunStatus.SUCCEEDED if log.flag("success", default=True) else RunStatus.FAILED
    if not log.flag("on_time", default=True):
        status = RunStatus.TIMED_OUT
    return ImportedRun(
        status=status,
        started_at=_aware(log.moment("run_start_datetime"), site) or site.now,
        ended_at=_aware(log.moment("run_end_datetime"), site),
        ran_on=log.text("hostname")[:255],
        stdout=log.text("stdout"),
        stderr=log.text("stderr"),
    )


def _last_run(row: Row, site: Site) -> ImportedRun | None:
    """What the job itself knows of its last run, whose log may be gone."""
    started = _aware(row.moment("last_run"), site)
    success = row.fields.get("last_run_successful")
    if started is None or success is None:
        return None
    return ImportedRun(RunStatus.SUCCEEDED if success else RunStatus.FAILED, started, started)


def _aware(moment: datetime | None, site: Site) -> datetime | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(site.timezone))
    return moment.astimezone(UTC)


@dataclass(slots=True)
class _Translator:
    """The translation of one job."""

    row: Row
    name: str
    site: Site
    result: Import

    def translate(self) -> ImportedJob | None:
        """Return the job, or None if it cannot be taken over at all."""
        row = self.row
        if row.text("command") == "check_monitor":
            self.result.refuse(
                self.name,
                "it evaluates a query that is Python code: " + row.text("args"),
                "Define a monitor of the kind records (or sql) with the same condition in the "
                "admin; the original needs attention when it finds more than 0 records.",
            )
            return None
        notes: list[str] = []
        fields = self._fields() | self._schedule(notes) | self._command(notes)
        monitor = self._monitor(fields) if row.flag("is_monitor", default=False) else None
        notes += self._left_out()
        return ImportedJob(row.key, self.name, fields, monitor=monitor, notes=tuple(notes))

    def _fields(self) -> dict[str, object]:
        row = self.row
        description = row.text("monitor_description")
        url = row.text("monitor_url")
        usable = url.startswith(("http://", "https://")) and "{" not in url and len(url) <= 500
        if url and not usable:
            self.result.refuse(
                self.name,
                f"its monitor URL is a template or a path: {url}",
                "Enter a complete URL as its runbook in the admin.",
            )
        hostname = row.text("hostname")
        if len(hostname) > 255:
            self.result.refuse(
                self.name,
                "its host name has more than 255 characters",
                "It may run on any host now; choose its host in the admin.",
            )
            hostname = ""
        return {
            "description": description,
            "enabled": row.flag("enabled", default=True),
            "hostname": hostname,
            "timeout_seconds": row.number("timeout_seconds") or None,
            "jitter_seconds": row.number("jitter_seconds"),
            "log_stdout": row.flag("log_stdout", default=True),
            "log_stderr": row.flag("log_stderr", default=True),
            "max_runs_kept": (row.number("maximum_log_entries") or None)
            if "maximum_log_entries" in row.fields
            else 1000,
            "email_on_failure": row.flag("email_errors_to_subscribers", default=True),
            "email_on_success": row.flag("email_success_to_subscribers", default=False),
            "runbook_url": url if usable else "",
        }

    def _schedule(self, notes: list[str]) -> dict[str, object]:
        row, site = self.row, self.site
        stored = row.moment("next_run")
        zone = "UTC" if stored is None or stored.tzinfo else site.timezone
        params = row.text("params")
        try:
            found = convert(row.text("frequency"), params, _aware(stored, site), site.now, zone)
        except NotConvertible as error:
            rule = f"{row.text('frequency')} {params}".strip()
            self.result.refuse(
                self.name,
                f"its schedule, {rule}: {error}",
                "It was created disabled and without a schedule. Enter one in the admin, and "
                "enable it.",
            )
            return {"schedule": "", "timezone": zone, "enabled": False}
        notes += found.notes
        if row.number("jitter_seconds"):
            notes.append("its jitter is in its times: it moved them a little with each run")
        fields: dict[str, object] = {"schedule": found.text, "timezone": found.zone}
        if found.counts_from is not None:
            fields["created_at"] = found.counts_from
        return fields

    def _command(self, notes: list[str]) -> dict[str, object]:
        row = self.row
        if raw := row.text("raw_command").strip():
            return {"command": "", "args": "", "raw_command": raw, "stderr_is_failure": False}
        args, found = as_command_line(row.text("command"), row.text("args"))
        notes += found
        return {"command": row.text("command").strip(), "args": args, "raw_command": ""}

    def _monitor(self, fields: dict[str, object]) -> ImportedMonitor | None:
        """A monitor that needs attention when its command writes to stderr."""
        if fields["raw_command"]:
            fields["stderr_is_failure"] = True  # a probe runs management commands only
            return None
        params = {"command": fields["command"], "args": fields["args"], "mode": "stderr"}
        limit = min(self.row.number("timeout_seconds") or _MONITOR_SECONDS, _MAX_MONITOR_SECONDS)
        return ImportedMonitor(
            "command", params, {"operator": ">", "critical": 0.0, "timeout_seconds": float(limit)}
        )

    def _left_out(self) -> Iterator[str]:
        row = self.row
        template = row.text("monitor_error_template")
        if (
            row.flag("is_monitor", default=False)
            and template.strip()
            and DEFAULT_TEMPLATE_MARK not in template
        ):
            self.result.refuse(
                self.name,
                "it has an email template of its own",
                "Override the templates of the site: see docs/how-to/notifications.md.",
            )
        if row.flag("is_running", default=False):
            yield "it was running when the dump was written; that run is not in its history"
        if row.flag("force_run", default=False):
            yield "it was requested to run at once; request that again in the admin"
