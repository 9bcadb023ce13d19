"""A whole tick, its jobs and its mail on the databases that sites have."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection

from chroniker.models import Host, Incident, JobState, Notification, OutputChunk, Run
from chroniker_monitors.models import Sample
from tests.factories import make_action_job, make_gauge_monitor
from tests.settings import BACKEND
from tests.support.types import Deploy

pytestmark = pytest.mark.django_db(transaction=True)

Manage = Callable[..., subprocess.CompletedProcess[str]]

EVERYWHERE = ["own_alias", "replica", "own_alias,atomic_requests", "replica,persistent"]
POSTGRESQL = ["pool", "pool,own_alias", "pool,replica"] if BACKEND == "postgres" else []


def assert_works(manage: Manage, tmp_path: Path) -> None:
    """A tick runs a chain, sends mail about a failure, checks a monitor and leaves nothing."""
    first = make_action_job("use_database", name="first")
    second = make_action_job("say second", name="second", schedule="")
    second.dependencies.create(upstream=first)
    make_action_job("fail boom", name="broken", subscribers=["ann"])
    monitor = make_gauge_monitor(tmp_path, 95, schedule="@every 1h", name="gauge")
    monitor.states.all().delete()
    type(monitor).objects.update(created_at="2020-01-01T00:00Z")

    done = manage("cron")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "rror" not in done.stderr, done.stderr

    runs = dict(Run.objects.exclude(status="missed").values_list("job__name", "status"))
    assert runs == {
        "first": "succeeded", "second": "succeeded", "broken": "failed", "gauge": "succeeded",
    }, list(Run.objects.values_list("job__name", "error"))  # fmt: skip
    assert OutputChunk.objects.filter(run__job=first, text__contains="4 jobs").exists()
    assert not JobState.objects.filter(lease_token__isnull=False).exists()
    assert Sample.objects.get().value == 95
    assert set(Incident.objects.values_list("job__name", flat=True)) == {"broken", "gauge"}
    mail = Notification.objects.get(incident__job__name="broken")
    assert (mail.recipient, mail.last_error) == ("ann@example.com", "")
    assert mail.sent_at is not None
    assert Host.objects.get().tick_seconds is not None

    idle = manage("cron")
    assert (idle.returncode, idle.stdout, idle.stderr) == (0, "", "")


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
