"""Two sites of one user on one host do not meet in the directory of lock files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from chroniker.identity import site_identity
from chroniker.models import JobState
from tests.factories import make_action_job
from tests.support.machine import REPO
from tests.support.processes import wait_until
from tests.support.types import RunManage, StartManage


@pytest.mark.parametrize(
    "change",
    [
        {"ENGINE": "django.db.backends.oracle"},
        {"HOST": "db2.example.com"},
        {"PORT": "7777"},
        {"NAME": "another"},
        {"OPTIONS": {"service": "another"}},
        {"OPTIONS": {"options": "-c search_path=another"}},
    ],
    ids=str,
)
def test_another_database_is_another_site(monkeypatch: Any, change: dict[str, Any]) -> None:
    before = site_identity()
    for key, value in change.items():
        monkeypatch.setitem(connections.settings["default"], key, value)
    assert site_identity() != before


@pytest.mark.parametrize(
    "change",
    [
        {"PASSWORD": "rotated"},
        {"CONN_MAX_AGE": None},
        {"OPTIONS": {"timeout": 3}},
    ],
    ids=str,
)
def test_other_options_are_the_same_site(monkeypatch: Any, change: dict[str, Any]) -> None:
    before = site_identity()
    for key, value in change.items():
        monkeypatch.setitem(connections.settings["default"], key, value)
    assert site_identity() == before


def test_path_of_sqlite_counts_and_not_how_it_is_written(monkeypatch: Any, tmp_path: Path) -> None:
    config = connections.settings["default"]
    monkeypatch.setitem(config, "ENGINE", "django.db.backends.sqlite3")
    monkeypatch.setitem(config, "NAME", tmp_path / "site.sqlite3")
    before = site_identity()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(config, "NAME", "site.sqlite3")
    assert site_identity() == before


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_two_sites_tick_at_the_same_time(
    manage: RunManage, start_manage: StartManage, site_env: dict[str, str], tmp_path: Path
) -> None:
    """The tick and the job of the first site hold their locks; the second's have the same ids."""
    (tmp_path / "locking_settings.py").write_text(
        "from tests.settings import *\nCHRONIKER_CHECK_LOCK_FILE = CHRONIKER_USE_PID = True\n"
        f"CHRONIKER_RUNTIME_DIR = {str(tmp_path / 'run')!r}\n"
    )
    first = {
        **site_env,
        "DJANGO_SETTINGS_MODULE": "locking_settings",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}",
    }
    second = first | {
        "CHRONIKER_TEST_DB": "sqlite",
        "CHRONIKER_TEST_DB_NAME": str(tmp_path / "second.sqlite3"),
    }
    job = make_action_job(f"once {tmp_path / 'started'}")
    assert manage("migrate", "--verbosity=0", env=second).returncode == 0
    tick = start_manage("cron", env=first)
    wait_until((tmp_path / "started").exists, timeout=30)
    state = JobState.objects.get(job=job)
    make = (
        "from chroniker.models import Job, JobState; from django.utils.timezone import now\n"
        f"job = Job.objects.create(pk={state.job_id}, name='second', command='noop')\n"
        f"JobState.objects.create(pk={state.pk}, job=job, run_requested_at=now())\n"
    )
    assert manage("shell", "-v0", "-c", make, env=second).returncode == 0
    ended = manage("cron", env=second, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, "")
    show = "from chroniker.models import Run; print(*Run.objects.values_list('status', 'error'))"
    assert "('succeeded', '')" in manage("shell", "-v0", "-c", show, env=second).stdout

    assert tick.poll() is None, "the first site's tick and job went on all the time"
    assert job.runs.get().status == "running"
    locks = {path.name.split("-")[0] for path in (tmp_path / "run").iterdir()}
    assert locks == {"cron", "job", "tick"}
    tick.kill()
    tick.wait(20)
