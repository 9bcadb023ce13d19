"""Two sites of one user on one host do not meet in the directory of lock files."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from chroniker.conf import conf
from chroniker.engine.reaper import job_lock
from chroniker.identity import site_identity
from chroniker.models import JobState
from tests.factories import make_due_job
from tests.support.machine import REPO
from tests.support.types import RunManage, RunTick


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


@pytest.mark.django_db(transaction=True)
def test_two_sites_share_a_directory(
    manage: RunManage, run_tick: RunTick, site_env: dict[str, str], settings: Any, tmp_path: Path
) -> None:
    """The first site's job and tick hold their locks; the second site's have the same ids."""
    settings.CHRONIKER_RUNTIME_DIR = str(tmp_path / "run")
    settings.CHRONIKER_CHECK_LOCK_FILE = settings.CHRONIKER_USE_PID = True
    (tmp_path / "second_settings.py").write_text(
        "from tests.settings import *\nCHRONIKER_CHECK_LOCK_FILE = CHRONIKER_USE_PID = True\n"
        f"CHRONIKER_RUNTIME_DIR = {settings.CHRONIKER_RUNTIME_DIR!r}\n"
    )
    second = {
        **site_env,
        "DJANGO_SETTINGS_MODULE": "second_settings",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}",
        "CHRONIKER_TEST_DB": "sqlite",
        "CHRONIKER_TEST_DB_NAME": str(tmp_path / "second.sqlite3"),
    }
    make_due_job()
    run_tick(only=frozenset())
    state = JobState.objects.get()
    assert manage("migrate", "--verbosity=0", env=second).returncode == 0
    make = (
        "from chroniker.models import Job, JobState; from django.utils.timezone import now\n"
        f"job = Job.objects.create(pk={state.job_id}, name='second', command='noop')\n"
        f"JobState.objects.create(pk={state.pk}, job=job, run_requested_at=now())\n"
    )
    assert manage("shell", "-v0", "-c", make, env=second).returncode == 0
    with job_lock(state.pk).path.open("w") as job, Path(conf.PID_FILE).open("w") as tick:
        for file in (job, tick):
            fcntl.flock(file, fcntl.LOCK_EX)
        ended = manage("cron", env=second, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, "")
    show = "from chroniker.models import Run; print(*Run.objects.values_list('status', 'error'))"
    assert "('succeeded', '')" in manage("shell", "-v0", "-c", show, env=second).stdout
