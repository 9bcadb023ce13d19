"""A lock on one job's row, held by somebody else, delays no other job."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils.timezone import now

from chroniker.db.backoff import describe_error
from chroniker.db.lock_timeout import short_lock_timeout
from chroniker.db.transactions import run_transaction
from chroniker.engine.entrypoints import run_single_tick
from chroniker.exceptions import DatabaseNotReady
from chroniker.models import Host, Job, JobState, Run
from tests.factories import make_action_job, make_due, make_due_job
from tests.settings import BACKEND
from tests.support.processes import wait_until
from tests.support.types import RunTick, StartTick

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(BACKEND == "sqlite", reason="SQLite has no locks of rows"),
]

PROMPT_SECONDS = 8.0
"""Less than a tick would take that waited for a lock and tried again."""


@contextlib.contextmanager
def locked(*rows: Host | Job | JobState) -> Iterator[None]:
    """Rows are locked by a transaction of somebody else, who does nothing more."""
    other: Any = connections["default"].copy()
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            for row in rows:
                table = row._meta.db_table
                cursor.execute(f"SELECT 1 FROM {table} WHERE id = %s FOR UPDATE", [row.pk])
        yield
    finally:
        other.rollback()
        other.close()


def outcomes() -> dict[str, str]:
    return dict(Run.objects.order_by("id").values_list("job__name", "status"))


def planned(*jobs: Job) -> list[JobState]:
    from chroniker.engine.planning import plan_changed_jobs

    plan_changed_jobs(now())
    return [JobState.objects.get(job=job) for job in jobs]


def test_first_statement_of_a_tick_waits_only_briefly(settings: Any) -> None:
    """A frozen tick may hold the row of its host; further ticks must not pile up behind it."""
    settings.CHRONIKER_LEASE_SECONDS = 30
    run_single_tick()
    with locked(Host.objects.get()):
        began = time.monotonic()
        with pytest.raises(DatabaseNotReady, match="Another transaction has held a lock"):
            run_single_tick()
        assert 0.9 < time.monotonic() - began < PROMPT_SECONDS
    run_single_tick()


def test_locked_job_that_is_due(run_tick: RunTick) -> None:
    jobs = [make_due_job(name=name) for name in ("locked", "free")]
    state, _ = planned(*jobs)
    with locked(state):
        began = time.monotonic()
        assert run_tick().exit_code == 0
        assert time.monotonic() - began < PROMPT_SECONDS
        assert outcomes() == {"free": "succeeded"}
    run_tick()
    assert outcomes() == {"free": "succeeded", "locked": "succeeded"}


def test_locked_definition(run_tick: RunTick) -> None:
    jobs = [make_due_job(name=name) for name in ("locked", "free")]
    planned(*jobs)
    with locked(jobs[0]):
        began = time.monotonic()
        assert run_tick().exit_code == 0
        assert time.monotonic() - began < 20
        assert outcomes() == {"free": "succeeded"}


def test_locked_job_whose_definition_has_changed(run_tick: RunTick) -> None:
    jobs = [make_due_job(name=name) for name in ("locked", "free")]
    state, _ = planned(*jobs)
    Job.objects.update(schedule="@every 2h")
    Job.objects.update(created_at=now() - timedelta(hours=5))
    make_due_job(name="new")
    with locked(state):
        began = time.monotonic()
        assert run_tick().exit_code == 0
        assert time.monotonic() - began < PROMPT_SECONDS
        assert outcomes() == {"new": "succeeded"}
        assert list(Job.objects.needing_planning()) == [jobs[0]]


def test_locked_upstream_job(run_tick: RunTick) -> None:
    upstream = make_due_job(name="upstream", schedule="@every 10h")
    downstream = make_due_job(name="downstream")
    downstream.dependencies.create(upstream=upstream, wait_for_success=False)
    free = make_due_job(name="free")
    state, _, _ = planned(upstream, downstream, free)
    with locked(state):
        began = time.monotonic()
        assert run_tick().exit_code == 0
        assert time.monotonic() - began < PROMPT_SECONDS
        assert outcomes() == {"free": "succeeded"}
    run_tick()
    assert outcomes() == {"free": "succeeded", "downstream": "succeeded"}


def test_locked_job_that_ends(start_tick: StartTick) -> None:
    names = ("locked", "first", "second")
    jobs = [make_action_job("sleep 1", name=name) for name in names]
    state, _, _ = planned(*jobs)
    tick = start_tick()
    wait_until(lambda: Run.objects.running().count() == 3, timeout=20)
    with locked(state):
        wait_until(
            lambda: sorted(outcomes().values()) == ["running", "succeeded", "succeeded"],
            timeout=PROMPT_SECONDS,
        )
        assert outcomes()["locked"] == "running"
        # Nor does it delay the next tick.
        make_due(jobs[1])
        assert start_tick().wait(PROMPT_SECONDS).exit_code == 0
        again = Run.objects.filter(job=jobs[1], status="succeeded")
        wait_until(lambda: again.count() == 2, timeout=PROMPT_SECONDS)  # by either tick
    assert tick.wait(20).exit_code == 0
    assert outcomes()["locked"] == "succeeded"
    assert not JobState.objects.filter(lease_token__isnull=False).exists()


def test_locked_job_keeps_no_other_lease_from_being_renewed(
    start_tick: StartTick, settings: Any
) -> None:
    settings.CHRONIKER_LEASE_SECONDS = 3.0
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.5
    names = ("locked", "free")
    jobs = [make_action_job("sleep 5", name=name) for name in names]
    state, _ = planned(*jobs)
    tick = start_tick()
    wait_until(lambda: Run.objects.running().count() == 2, timeout=20)
    with locked(state):
        wait_until(lambda: outcomes()["free"] == "succeeded", timeout=20)
    tick.wait(20)
    assert outcomes()["free"] == "succeeded"


def test_locked_job_whose_owner_is_gone(run_tick: RunTick) -> None:
    jobs = [make_due_job(name=name) for name in ("locked", "free")]
    state, _ = planned(*jobs)
    run = Run.objects.create(job=jobs[0], scheduled_for=now(), started_at=now())
    JobState.objects.filter(pk=state.pk).update(
        lease_token="gone", current_run=run, lease_host="another host", lease_owner="tick-1-1",
        lease_expires_at=now() - timedelta(minutes=5),
    )  # fmt: skip
    with locked(state):
        began = time.monotonic()
        assert run_tick().exit_code == 0
        assert time.monotonic() - began < PROMPT_SECONDS
        assert outcomes() == {"locked": "running", "free": "succeeded"}
    run_tick()
    assert outcomes()["locked"] == "lost"


def test_lock_that_is_held_for_long_is_named(settings: Any) -> None:
    settings.CHRONIKER_LEASE_SECONDS = 3.0
    state = planned(make_due_job())[0]
    with locked(state), short_lock_timeout(), pytest.raises(Exception) as caught:
        run_transaction(lambda: JobState.objects.update(last_error="x"))
    text = describe_error(caught.value)
    assert text.startswith("Another transaction has held a lock for too long: ")
