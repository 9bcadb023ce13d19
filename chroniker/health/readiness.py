"""Whether jobs can be scheduled: database, migrations, hosts, jobs."""

from __future__ import annotations

import logging
import pkgutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from django.apps import apps
from django.db import DatabaseError, InterfaceError
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from chroniker.db.alias import database
from chroniker.db.clock import database_now_plus
from chroniker.enums import BlockedReason
from chroniker.logs import log_context
from chroniker.models import Host, JobState

logger = logging.getLogger(__name__)

_SILENT_SECONDS = 300
"""As in the alert ChronikerHostNotTicking."""
_KEEP_SECONDS = 5
"""How long a result is reused: whoever can reach the port must not be able to load the database."""
LIMIT_SECONDS = 3
"""How long a request waits for the database."""
_UNSCHEDULABLE = (BlockedReason.SCHEDULE, BlockedReason.COMMAND, BlockedReason.HOST)


@dataclass(frozen=True, slots=True)
class Check:
    """One condition. ``detail`` is for a person; it names no job and quotes no error."""

    name: str
    ok: bool
    detail: str = ""
    needed: bool = True
    """Whether nothing works without it."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """The result of all checks that could be made."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether all conditions are met."""
        return all(check.ok for check in self.checks)

    @property
    def status(self) -> str:
        """``ok``, ``degraded`` (somebody must look at a host or a job), or ``unavailable``."""
        if self.ok:
            return "ok"
        broken = any(check.needed and not check.ok for check in self.checks)
        return "unavailable" if broken else "degraded"

    def as_dict(self) -> dict[str, object]:
        """The body of the response."""
        return {
            "status": self.status,
            "checks": {
                check.name: {"ok": check.ok} | ({"detail": check.detail} if check.detail else {})
                for check in self.checks
            },
        }


UNANSWERED = Readiness((Check("database", False, "The database does not answer in time."),))


def check_readiness() -> Readiness:
    """Make the checks, over this thread's connection. Checks after a failed one are left out."""
    made: list[Check] = []
    steps = (_check_database, _check_migrations, _check_hosts, _check_jobs)
    try:
        for step in steps:
            check = step()
            made.append(check)
            if check.needed and not check.ok:
                break
    except (DatabaseError, InterfaceError) as error:
        logger.warning("The readiness check failed: %s", error, extra=log_context())
        made.append(Check("database", False, "The database cannot be read."))
    return Readiness(tuple(made))


def _check_database() -> Check:
    try:
        connection = database()
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError):
        return Check("database", False, "The database cannot be reached.")
    return Check("database", True)


def _check_migrations() -> Check:
    if missing := unapplied_migrations():
        return Check("migrations", False, f"Migrations that are not applied: {len(missing)}.")
    return Check("migrations", True)


def unapplied_migrations() -> list[tuple[str, str]]:
    """Return the migrations of Chroniker that the database has not: app label and name."""
    return compare_migrations()[0]


def compare_migrations() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the migrations that only this version has, and those that only the database has."""
    labels = [app.label for app in apps.get_app_configs() if app.name.startswith("chroniker")]
    recorder = MigrationRecorder(database())
    applied: set[tuple[str, str]] = set()
    if recorder.has_table():
        rows = recorder.migration_qs.filter(app__in=labels)
        applied = set(rows.values_list("app", "name"))
    known = [key for label in labels for key in _migrations(label)]
    migrated = {label for label, _ in known}  # a site can turn migrations off
    unknown = sorted(key for key in applied if key not in known and key[0] in migrated)
    return [key for key in known if key not in applied], unknown


def _migrations(label: str) -> list[tuple[str, str]]:
    name, _ = MigrationLoader.migrations_module(label)
    if name is None:  # the site has turned migrations off
        return []
    found = pkgutil.iter_modules(import_module(name).__path__)
    return [(label, module.name) for module in found if module.name[0] not in "_~"]


def _check_hosts() -> Check:
    since = database_now_plus(-_SILENT_SECONDS)
    if Host.objects.active().filter(last_tick_at__gte=since).exists():
        return Check("hosts", True, needed=False)
    return Check("hosts", False, "No host has ticked for five minutes.", needed=False)


def _check_jobs() -> Check:
    states = JobState.objects.current().filter(job__enabled=True)
    if number := states.filter(blocked_reason__in=_UNSCHEDULABLE).count():
        detail = f"Enabled jobs that cannot be scheduled: {number}."
        return Check("jobs", False, detail, needed=False)
    return Check("jobs", True, needed=False)


class ReadinessProbe:
    """Makes the checks for any number of requests: one at a time, within a time limit."""

    def __init__(self, check: Callable[[], Readiness] = check_readiness) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._result = UNANSWERED
        self._read_at = float("-inf")

    def read(self) -> Readiness:
        """The result of at most a few seconds ago."""
        with self._lock:
            if time.monotonic() - self._read_at < _KEEP_SECONDS:
                return self._result
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(LIMIT_SECONDS)
        return UNANSWERED if thread.is_alive() else self._result

    def _run(self) -> None:
        try:
            result = self._check()
        except Exception:
            logger.exception("The readiness check failed", extra=log_context())
            result = Readiness((Check("checks", False, "A check failed; see the log."),))
        finally:
            database().close()
        self._result, self._read_at = result, time.monotonic()
