"""A whole tick, its jobs and its mail on the databases that sites have."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection

from tests.factories import make_action_job
from tests.settings import BACKEND
from tests.support.deployments import assert_works
from tests.support.machine import free_port
from tests.support.types import Deploy

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

Manage = Callable[..., subprocess.CompletedProcess[str]]

EVERYWHERE = ["own_alias", "replica", "own_alias,atomic_requests", "replica,persistent"]
PROMPT_SECONDS = 15.0
"""Half of what a pool would wait, and much more than a new Python takes."""
POSTGRESQL = ["pool", "pool,own_alias", "pool,replica"] if BACKEND == "postgres" else []


@pytest.mark.parametrize("kinds", EVERYWHERE + POSTGRESQL)
def test_tick_runs_everything(kinds: str, deploy: Deploy, tmp_path: Path) -> None:
    assert_works(deploy(kinds), tmp_path)


@pytest.mark.parametrize("kinds", ["own_alias", "replica", *POSTGRESQL])
def test_commands_and_metrics_use_the_same_database(
    kinds: str, deploy: Deploy, tmp_path: Path
) -> None:
    job = make_action_job("say hello", name="asked for")
    manage = deploy(kinds)
    done = manage("run_job", job.name)
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stdout
    metrics = manage("write_metrics", str(tmp_path / "metrics"))
    assert metrics.returncode == 0, metrics.stderr
    page = (tmp_path / "metrics").read_text()
    assert 'chroniker_job_runs_total{job_name="asked for"} 1' in page
    assert manage("job_chain", job.name).returncode == 0
    assert manage("cron_clean", "days", "1").returncode == 0


@pytest.mark.skipif(BACKEND != "postgres", reason="Django has pools for PostgreSQL only")
def test_tick_with_a_pool_does_not_wait_for_a_database_that_is_down(deploy: Deploy) -> None:
    manage = deploy("pool", database={"HOST": "127.0.0.1", "PORT": str(free_port())})
    for argv in (["cron"], ["cronserver", "1"]):
        began = time.monotonic()
        done = manage(*argv)
        assert done.returncode == 1, done.stderr
        assert "The database cannot be reached" in done.stderr
        assert time.monotonic() - began < PROMPT_SECONDS


FORM = """
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from chroniker.models import Job, JobDependency
client = Client()
client.force_login(User.objects.using({alias!r}).get())
first = Job.objects.create(name="first", command="noop")
second = Job.objects.create(name="second", command="noop")
JobDependency(downstream=second, upstream=first).full_clean()
second.refresh_from_db()
assert JobDependency.objects.create(downstream=second, upstream=first).upstream == first
assert second.dependencies.get().upstream.name == "first"
page = client.get(reverse("admin:chroniker_job_changelist"))
assert page.status_code == 200, page.content
assert client.get("/metrics", REMOTE_ADDR="127.0.0.1").status_code == 200
"""


@pytest.mark.parametrize("kinds", ["own_alias,atomic_requests", "atomic_requests"])
def test_admin_and_metrics_pages_with_atomic_requests(kinds: str, deploy: Deploy) -> None:
    User.objects.create_superuser("root")
    alias = "scheduler" if "own_alias" in kinds else "default"
    done = deploy(kinds)("shell", "-c", FORM.format(alias=alias))
    assert done.returncode == 0, done.stderr


REPLICA_FORM = """
from chroniker.models import Job, JobDependency
first = Job.objects.create(name="first", command="noop")
second = Job.objects.create(name="second", command="noop")
JobDependency(downstream=second, upstream=first).full_clean()
JobDependency.objects.create(downstream=second, upstream=first)
dependency = JobDependency.objects.get()
assert dependency.upstream == first
assert first.downstream_dependencies.get() == dependency
assert not dependency.upstream.subscribers.using("default").exists()
dependency.refresh_from_db()
for job in Job.objects.prefetch_related("dependencies__upstream").defer("args"):
    assert job.args == ""
"""


def test_relations_are_read_where_they_are_written(deploy: Deploy) -> None:
    done = deploy("replica")("shell", "-c", REPLICA_FORM)
    assert done.returncode == 0, done.stderr


HALF_WRITTEN = """
from django.db import connections
from chroniker.alerting.outbox import committed
from chroniker.db.alias import database
from chroniker.db.transactions import run_transaction
from chroniker.models import Job, Notification
from chroniker.alerting import outbox
from chroniker_monitors.models import Monitor
from django.utils.timezone import now

def half():
    job = Job.objects.create(name="half", command="noop")
    outbox.enqueue("opened", [("mail", "a@example.com")], now(), job=job)
    Monitor.objects.define(name="quarter", kind="heartbeat",
                           params={"period_seconds": 60, "grace_seconds": 60})
    assert not committed.test_and_clear()  # not before the commit
    raise ZeroDivisionError

try:
    run_transaction(half)
except ZeroDivisionError:
    pass
assert not committed.test_and_clear()
assert database().alias == "scheduler"
"""


def test_half_a_transaction_never_survives_its_rollback(deploy: Deploy) -> None:
    done = deploy("own_alias")("shell", "-c", HALF_WRITTEN)
    assert done.returncode == 0, done.stderr
    with connection.cursor() as cursor:
        for table in ("chroniker_job", "chroniker_notification", "chroniker_monitors_probe"):
            cursor.execute(f"SELECT COUNT(*) FROM {table}")
            assert cursor.fetchone()[0] == 0, table
