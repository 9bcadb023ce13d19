"""Installations that are broken on purpose: the doctor names what is wrong, and says what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils.timezone import now

from chroniker.conf import conf
from chroniker.doctor.examiner import examine
from chroniker.doctor.findings import Level
from chroniker.doctor.registry import Installation
from chroniker.enums import BlockedReason
from chroniker.models import Host, Maintenance
from tests.factories import (
    make_incident,
    make_job,
    make_job_state,
    make_notification,
    make_running,
    make_user,
)
from tests.support.machine import free_port
from tests.support.mail_server import set_mail_options
from tests.support.tasks import TASKS, needs_tasks

from .conftest import Examine

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

Break = Callable[[Any, Path], None]


def _sqlite_options(settings: Any, crontab: Path) -> None:
    settings.SILENCED_SYSTEM_CHECKS = []


def _lease(settings: Any, crontab: Path) -> None:
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 50


def _time_zones(settings: Any, crontab: Path) -> None:
    settings.USE_TZ = False


def _runtime_directory(settings: Any, crontab: Path) -> None:
    path = crontab.parent / "open"
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    settings.CHRONIKER_RUNTIME_DIR = str(path)


def _migrations(settings: Any, crontab: Path) -> None:
    MigrationRecorder(connection).record_unapplied("chroniker_monitors", "0001_initial")


def _newer_migrations(settings: Any, crontab: Path) -> None:
    MigrationRecorder(connection).record_applied("chroniker", "0099_from_the_future")


def _older_schema(settings: Any, crontab: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE chroniker_digest RENAME TO digest_of_another_version")
        cursor.execute("ALTER TABLE chroniker_incident RENAME COLUMN occurrences TO times")


def _original_tables(settings: Any, crontab: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE chroniker_log (id integer)")


def _never(settings: Any, crontab: Path) -> None:
    Host.objects.all().delete()


def _stopped(settings: Any, crontab: Path) -> None:
    Host.objects.update(last_tick_at=now() - timedelta(hours=2))


def _other_host(settings: Any, crontab: Path) -> None:
    Host.objects.create(name="web7", last_tick_at=now() - timedelta(hours=2))


def _paused(settings: Any, crontab: Path) -> None:
    Host.objects.update(paused=True)


def _blocked_job(settings: Any, crontab: Path) -> None:
    make_job_state(
        _quiet_job(), blocked_reason=BlockedReason.COMMAND, blocked_detail="there is no command x"
    )


def _line(text: str) -> Break:
    def change(settings: Any, crontab: Path) -> None:
        crontab.write_text(text.replace("DIR", os.getcwd()).replace("BIN", _bin()) + "\n")

    return change


def _other_python(settings: Any, crontab: Path) -> None:
    python = crontab.parent / "python3"
    python.touch(mode=0o755)
    crontab.write_text(f"* * * * * root cd {os.getcwd()} && {python} manage.py cron\n")


def _bin() -> str:
    return os.path.dirname(os.path.abspath(sys.executable))


def _no_line(settings: Any, crontab: Path) -> None:
    crontab.write_text("* * * * * root /bin/true\n")
    Host.objects.update(last_tick_at=now() - timedelta(minutes=6))


def _two_lines(settings: Any, crontab: Path) -> None:
    lines = crontab.read_text()
    crontab.write_text(lines + lines)


def _no_mail_server(settings: Any, crontab: Path) -> None:
    set_mail_options(settings, host="127.0.0.1", port=free_port())


def _mail_to_nowhere(settings: Any, crontab: Path) -> None:
    set_mail_options(settings, "dummy")


def _default_sender(settings: Any, crontab: Path) -> None:
    settings.DEFAULT_FROM_EMAIL = "webmaster@localhost"


def _no_links(settings: Any, crontab: Path) -> None:
    settings.CHRONIKER_SITE_URL = ""


def _nobody(settings: Any, crontab: Path) -> None:
    make_job()


def _quiet_job() -> Any:
    job = make_job()
    job.subscribers.add(make_user(f"user of {job.name}"))
    return job


def _stuck_mail(settings: Any, crontab: Path) -> None:
    incident = make_incident(_quiet_job())
    make_notification(
        incident, "k", created_at=now() - timedelta(hours=2), last_error="relay denied"
    )


def _stale_lease(settings: Any, crontab: Path) -> None:
    make_running(_quiet_job(), lease_expires_at=now() - timedelta(hours=1))


def _orphan(settings: Any, crontab: Path) -> None:
    state = make_running(_quiet_job())
    assert state.current_run is not None
    type(state.current_run).objects.update(started_at=now() - timedelta(hours=1))
    type(state).objects.update(current_run=None, lease_token=None)


def _forgotten_window(settings: Any, crontab: Path) -> None:
    Maintenance.objects.create(
        starts_at=now() - timedelta(days=9), ends_at=now() + timedelta(days=90)
    )


def _no_metrics(settings: Any, crontab: Path) -> None:
    settings.ROOT_URLCONF = "tests.chroniker.doctor.urls_without_metrics"


def _hidden_metrics(settings: Any, crontab: Path) -> None:
    settings.ROOT_URLCONF = "tests.chroniker.doctor.urls_with_a_page_for_all"


def _public_metrics(settings: Any, crontab: Path) -> None:
    settings.CHRONIKER_METRICS_ALLOWED_NETWORKS = ["0.0.0.0/0"]


def _redirected_metrics(settings: Any, crontab: Path) -> None:
    settings.SECURE_SSL_REDIRECT = True


BROKEN: dict[str, tuple[Break, Level]] = {
    "settings.chroniker.E003": (_lease, Level.ERROR),
    "settings.chroniker.E006": (_time_zones, Level.ERROR),
    "settings.chroniker.W002": (_sqlite_options, Level.WARNING),
    "settings.chroniker_monitors.W010": (_redirected_metrics, Level.WARNING),
    "settings.runtime-directory": (_runtime_directory, Level.ERROR),
    "migrations.missing": (_migrations, Level.ERROR),
    "migrations.unknown": (_newer_migrations, Level.WARNING),
    "migrations.schema": (_older_schema, Level.ERROR),
    "migrations.original": (_original_tables, Level.ERROR),
    "ticks.never": (_never, Level.ERROR),
    "ticks.stopped": (_stopped, Level.ERROR),
    "ticks.host-silent": (_other_host, Level.WARNING),
    "ticks.paused": (_paused, Level.WARNING),
    "ticks.job-blocked": (_blocked_job, Level.WARNING),
    "cron.missing": (_no_line, Level.ERROR),
    "cron.twice": (_two_lines, Level.WARNING),
    "cron.program": (_line("* * * * * root /no/such/bin/chroniker -p DIR"), Level.ERROR),
    "cron.environment": (_other_python, Level.WARNING),
    "cron.user": (_line("* * * * * nosuchuser BIN/python -m chroniker.cli -p DIR"), Level.ERROR),
    "cron.schedule": (_line("*/5 * * * * root BIN/python -m chroniker.cli -p DIR"), Level.WARNING),
    "cron.percent": (_line("* * * * * root BIN/python -m chroniker.cli -p DIR -l /x%d"),
                     Level.ERROR),
    "cron.errors-discarded": (
        _line("* * * * * root BIN/python -m chroniker.cli -p DIR >/dev/null 2>&1"), Level.WARNING,
    ),
    "cron.directory": (_line("* * * * * root BIN/python -m chroniker.cli -p /no/such/site"),
                       Level.ERROR),
    "mail.unreachable": (_no_mail_server, Level.ERROR),
    "mail.backend": (_mail_to_nowhere, Level.WARNING),
    "mail.sender": (_default_sender, Level.WARNING),
    "mail.links": (_no_links, Level.WARNING),
    "mail.nobody": (_nobody, Level.WARNING),
    "mail.stuck": (_stuck_mail, Level.ERROR),
    "leftovers.stale-leases": (_stale_lease, Level.ERROR),
    "leftovers.orphaned-runs": (_orphan, Level.WARNING),
    "leftovers.maintenance": (_forgotten_window, Level.WARNING),
    "metrics.no-url": (_no_metrics, Level.WARNING),
    "metrics.hidden": (_hidden_metrics, Level.ERROR),
    "metrics.public": (_public_metrics, Level.WARNING),
}  # fmt: skip
ALSO = {
    "ticks.never": set(),
    "cron.missing": {"ticks.stopped"},
    "metrics.hidden": set(),
}
"""What else is truly wrong then."""


def test_healthy_installation_has_no_findings(
    installation: Installation, examined: Examine
) -> None:
    assert examined() == {}
    areas = {finding.area for finding in examine(installation)}
    assert areas == {
        "database", "migrations", "settings", "ticks", "cron", "mail", "metrics", "clock",
    }  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_installation_is_named(
    name: str, settings: Any, crontab: Path, examined: Examine
) -> None:
    break_it, level = BROKEN[name]
    break_it(settings, crontab)
    found = examined()
    assert set(found) == {name} | ALSO.get(name, set())
    assert found[name].level is level
    assert found[name].remedy
    assert "\n" not in found[name].message


@pytest.mark.parametrize(
    "text",
    [
        "* * * * * root cd DIR && env/bin/python manage.py cron",
        "* * * * * root cd DIR && . env/bin/activate && python manage.py cron",
        "HOME=DIR\n* * * * * root . env/bin/activate && python manage.py cron",
        "HOME=DIR\n* * * * * root env/bin/python manage.py cron",
        "HERE=DIR\n* * * * * root cd $HERE; $HERE/env/bin/python $HERE/manage.py cron",
        "* * * * * root cd DIR && flock -n /tmp/l env/bin/python manage.py cron",
        "* * * * * root PATH=DIR/env/bin:$PATH python DIR/manage.py cron",
        "* * * * * root bash -c 'cd DIR && source env/bin/activate && python manage.py cron'",
        "* * * * * root DIR/env/bin/python DIR/manage.py cron\n"
        "0 3 * * * root pg_dump -Fc chroniker > /x\n"
        "0 3 * * * root cd /no/such/chroniker && ./backup.sh\n"
        "0 3 * * * root sudo -u chroniker certbot renew",
    ],
)
def test_lines_that_work_are_not_reported(
    text: str, crontab: Path, examined: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "manage.py").touch()
    (site / "env").symlink_to(sys.prefix)
    monkeypatch.setattr(sys, "argv", [str(site / "manage.py"), "chroniker_doctor"])
    crontab.write_text(text.replace("DIR", str(site)) + "\n")
    assert examined() == {}


def test_missing_tables_and_columns_are_named(
    settings: Any, crontab: Path, examined: Examine
) -> None:
    _older_schema(settings, crontab)
    message = examined()["migrations.schema"].message
    assert "chroniker_digest" in message and "chroniker_incident.occurrences are missing" in message


def test_manage_py_that_is_not_there_is_named(crontab: Path, examined: Examine) -> None:
    crontab.write_text("HOME=/usr\n* * * * * root /usr/bin/python3 manage.py cron\n")
    found = examined()["cron.directory"]
    assert "starts /usr/manage.py, which does not exist" in found.message


@needs_tasks
def test_job_whose_task_cannot_be_called_is_named(settings: Any, examined: Examine) -> None:
    make_job(name="gone", task=f"{TASKS}.gone", schedule="@daily")
    make_job(name="off", task=f"{TASKS}.gone", enabled=False)
    make_job(name="mistaken", task=f"{TASKS}.say", task_kwargs={"txt": 1}, schedule="@daily")
    found = [f for f in examine(Installation()) if f.id == "tasks.unusable"]
    assert [f.message.split(":")[0] for f in found] == [
        "The job gone cannot run its task", "The job mistaken cannot run its task",
    ]  # fmt: skip
    make_job(name="waits", task=f"{TASKS}.give", task_args=[1], enqueue=True, schedule="@daily")
    assert "no timeout: waits." in examined()["tasks.no-timeout"].message
    settings.CHRONIKER_ALLOWED_TASKS = [f"{TASKS}.gone"]
    assert "tasks.not-loaded" in examined()


def test_database_that_cannot_be_written(examined: Examine) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PRAGMA query_only is SQLite's")
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON")
    try:
        found = examined()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = OFF")
    assert found["database.read-only"].level is Level.ERROR
    assert "readonly database" in found["database.read-only"].message


def test_clock_that_is_wrong(examined: Examine) -> None:
    found = examined(clock=lambda: now() + timedelta(minutes=3))
    assert set(found) == {"clock.skew"}
    assert "180 s ahead of" in found["clock.skew"].message


def test_examination_that_raises_is_a_finding(settings: Any, examined: Examine) -> None:
    settings.CHRONIKER_METRICS_TOKEN = 7  # of a wrong type
    found = examined()
    assert "settings.chroniker_monitors.E001" in found


def test_silent_host_is_this_hosts_own_name_or_another(examined: Examine) -> None:
    Host.objects.filter(name=conf.HOSTNAME).update(name="elsewhere")
    assert examined() == {}  # a machine that serves only the web
