"""Jobs that wait for their upstream jobs or for the end of a maintenance window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils.timezone import now

from chroniker.conf import conf
from chroniker.models import Host, Job, JobDependency, JobState, Run
from tests.factories import (
    make_action_job,
    make_due,
    make_due_job,
    make_job,
    make_maintenance,
    minutes_from_now,
)
from tests.support.processes import wait_until
from tests.support.runs import request_stop
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestDependencies:
    def test_chain_runs_in_one_tick_and_in_order(self, run_tick: RunTick) -> None:
        last, middle, first = make_due_job(name="c"), make_due_job(name="b"), make_due_job(name="a")
        JobDependency.objects.create(downstream=last, upstream=middle)
        JobDependency.objects.create(downstream=middle, upstream=first)
        run_tick()
        ran = Run.objects.order_by("started_at").values_list("job__name", "status")
        assert list(ran) == [("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded")]
        runs = {run.job.name: run for run in Run.objects.select_related("job")}
        assert runs["a"].ended_at <= runs["b"].started_at  # type: ignore[operator]
        assert runs["b"].ended_at <= runs["c"].started_at  # type: ignore[operator]

    def test_failed_upstream_blocks_with_reason(self, run_tick: RunTick) -> None:
        first, then = make_action_job("exit 1", name="import"), make_due_job(name="report")
        JobDependency.objects.create(downstream=then, upstream=first)
        run_tick()
        run_tick()
        assert not Run.objects.filter(job=then).exists()
        reason = JobState.objects.get(job=then).blocked_detail
        assert reason == "import has not succeeded (last status: failed)"
        Job.objects.filter(pk=first.pk).update(args="exit 0")
        make_due(first)
        run_tick()
        assert Run.objects.get(job=then).status == "succeeded"
        assert JobState.objects.get(job=then).blocked_reason == ""

    def test_unscheduled_job_runs_after_its_upstream(self, run_tick: RunTick) -> None:
        first, then = make_due_job(), make_job(schedule="")
        JobDependency.objects.create(downstream=then, upstream=first)
        run_tick()
        run = Run.objects.get(job=then)
        assert (run.status, run.trigger) == ("succeeded", "dependency")
        run_tick()
        assert Run.objects.filter(job=then).count() == 1

    def test_manual_request_ignores_dependencies(self, run_tick: RunTick) -> None:
        first, then = make_action_job("exit 1"), make_job(schedule="")
        JobDependency.objects.create(downstream=then, upstream=first)
        run_tick()
        JobState.objects.filter(job=then).request_run(now())
        run_tick()
        assert Run.objects.get(job=then).status == "succeeded"

    def test_wait_for_next_run_waits_for_the_same_period(self, run_tick: RunTick) -> None:
        first = make_job(schedule="@every 1h", created_at=now() - timedelta(minutes=10))
        then = make_due_job()
        JobDependency.objects.create(
            downstream=then, upstream=first, wait_for_completion=False, wait_for_success=False,
            wait_for_next_run=True,
        )  # fmt: skip
        run_tick(only=frozenset())
        JobState.objects.filter(job=first).update(
            next_slot_at=JobState.objects.get(job=then).next_slot_at
        )
        run_tick()
        assert not Run.objects.filter(job=then).exists()
        assert "this period" in JobState.objects.get(job=then).blocked_detail
        make_due(first)
        run_tick()
        assert Run.objects.get(job=then).status == "succeeded"

    def test_stored_cycle_blocks_only_its_own_jobs(self, run_tick: RunTick) -> None:
        a, b, good = make_due_job(), make_due_job(), make_due_job()
        JobDependency.objects.create(downstream=a, upstream=b)
        JobDependency.objects.create(downstream=b, upstream=a)
        run_tick()
        assert [run.job for run in Run.objects.select_related("job")] == [good]


def test_former_upstream_placement_does_not_block(run_tick: RunTick) -> None:
    first = make_job(hostname="")
    run_tick()
    Job.objects.filter(pk=first.pk).update(hostname="*")
    then = make_due_job()
    JobDependency.objects.create(downstream=then, upstream=first)
    run_tick()
    JobState.objects.filter(job=first).exclude(host="").request_run()
    run_tick()
    assert Run.objects.get(job=then).status == "succeeded"


def test_manual_request_overrides_blocked_dependency_request(run_tick: RunTick) -> None:
    first, then = make_action_job("exit 1"), make_job()
    JobDependency.objects.create(downstream=then, upstream=first)
    run_tick()
    JobState.objects.filter(job=then).update(run_requested_at=now(), run_requested_by="dependency")
    run_tick()
    assert not Run.objects.filter(job=then).exists()
    assert JobState.objects.filter(job=then).request_run() == 1
    run_tick()
    assert Run.objects.get(job=then).status == "succeeded"


def test_paused_job_is_not_started_and_has_a_reason(run_tick: RunTick) -> None:
    now = datetime.now(UTC)
    fields = {"schedule": "@every 1h", "created_at": now - timedelta(minutes=61)}
    paused, free = make_job(**fields), make_job(**fields)
    made = make_maintenance(now, 60, paused, pause=True, reason="new disks")
    assert run_tick().exit_code == 0
    assert [run.job for run in Run.objects.all()] == [free]
    state = JobState.objects.get(job=paused)
    assert state.blocked_reason == "maintenance"
    assert state.blocked_detail.startswith("new disks until ")
    run_tick(only=frozenset([paused.pk]), force=True)
    assert not Run.objects.filter(job=paused).exists(), "not even by name"
    made.delete()
    run_tick()
    assert Run.objects.get(job=paused).status == "succeeded"
    assert JobState.objects.get(job=paused).blocked_reason == ""


def blocked(job: Job) -> tuple[str, str]:
    states = JobState.objects.filter(job=job).values_list("blocked_reason", "blocked_detail")
    return states.first() or ("", "")


def test_full_host_is_named_until_the_job_starts(start_tick: StartTick) -> None:
    first, second = make_action_job("sleep 30", priority=1), make_due_job()
    tick = start_tick(max_parallel=1)
    wait_until(lambda: blocked(second) != ("", ""))
    detail = f"{conf.HOSTNAME} is at capacity (CHRONIKER_MAX_PARALLEL: 1)."
    assert blocked(second) == ("capacity", detail)
    assert not Run.objects.filter(job=second).exists()
    request_stop(first)
    tick.wait()
    assert Run.objects.get(job=second).status == "succeeded"
    assert blocked(second) == ("", "")


def test_jobs_of_a_paused_host_say_so_and_others_do_not(run_tick: RunTick) -> None:
    run_tick()
    pinned, free = make_due_job(hostname=conf.HOSTNAME), make_due_job()
    Host.objects.update(paused=True)
    run_tick()
    assert blocked(pinned) == ("paused", f"Host {conf.HOSTNAME} is paused.")
    assert blocked(free) == ("", "")
    Host.objects.update(paused=False)
    run_tick()
    assert Run.objects.get(job=pinned).status == "succeeded"
    assert blocked(pinned) == ("", "")


@pytest.mark.parametrize(
    ("last_tick_minutes", "detail"),
    [(None, "Host web9 has never ticked."), (-60, "Host web9 last ticked at "), (-1, "")],
)
def test_job_pinned_to_a_silent_host_names_it(
    run_tick: RunTick, last_tick_minutes: float | None, detail: str
) -> None:
    run_tick()
    Host.objects.update(up_since=minutes_from_now(-600))
    if last_tick_minutes is not None:
        Host.objects.create(name="web9", last_tick_at=minutes_from_now(last_tick_minutes))
    job = make_job(hostname="web9", schedule="@every 1h")
    run_tick()
    make_due(job, ago=timedelta(hours=2))
    run_tick()
    reason, found = blocked(job)
    assert reason == ("host" if detail else "")
    assert found.startswith(detail)
