"""Jobs that wait for their upstream jobs or for the end of a maintenance window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils.timezone import now

from chroniker.conf import conf
from chroniker.engine.blocking import (
    explain_absent_hosts,
    explain_blocked,
    explain_full_host,
    explain_paused_host,
)
from chroniker.engine.planning import plan_changed_jobs
from chroniker.models import Host, Job, JobDependency, JobState, Run
from tests.factories import (
    NOON,
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


# --- reasons, without ticks ---


class TestReasons:
    """What is stored for people, at noon."""

    @pytest.fixture(autouse=True)
    def _host(self) -> None:
        Host.objects.create(name="web1")

    def make_due_at(self, moment: datetime, **fields: Any) -> Job:
        hour = timedelta(hours=1)
        job = make_job(schedule="@every 1h", created_at=moment - hour, **fields)
        plan_changed_jobs(moment - hour)
        return job

    def test_full_host_is_named_for_jobs_that_it_could_start(self) -> None:
        due = self.make_due_at(NOON)
        later = self.make_due_at(NOON + timedelta(seconds=1))
        elsewhere = self.make_due_at(NOON, hostname="web2")
        waits, paused = self.make_due_at(NOON), self.make_due_at(NOON)
        JobDependency.objects.create(downstream=waits, upstream=later)
        make_maintenance(NOON, 60, paused, pause=True)
        explain_full_host(NOON, "web1", 4)
        assert blocked(due) == ("capacity", "web1 is at capacity (CHRONIKER_MAX_PARALLEL: 4).")
        for job in (later, elsewhere, waits, paused):
            assert blocked(job) == ("", "")

    def test_paused_host_is_named_for_its_own_jobs(self) -> None:
        pinned = self.make_due_at(NOON, hostname="web1")
        everywhere = self.make_due_at(NOON, hostname="*")
        free, later = self.make_due_at(NOON), self.make_due_at(NOON + timedelta(seconds=1))
        explain_paused_host(NOON, "web1")
        assert blocked(pinned) == blocked(everywhere) == ("paused", "Host web1 is paused.")
        assert blocked(free) == blocked(later) == ("", "")

    def test_running_job_has_no_blocked_reason(self) -> None:
        job = self.make_due_at(NOON)
        JobState.objects.update(lease_token="token", lease_expires_at=NOON)
        explain_full_host(NOON, "web1", 4)
        assert blocked(job) == ("", "")

    def test_maintenance_window_is_named_with_its_end(self) -> None:
        one, two, free = (self.make_due_at(NOON) for _ in range(3))
        make_maintenance(NOON, 60, one, pause=True, reason="new disks")
        make_maintenance(NOON, 30, two, pause=True)
        make_maintenance(NOON, 90, one, two, free)  # it only mutes
        make_maintenance(NOON - timedelta(hours=2), 60, free, pause=True)  # it has ended
        explain_blocked(NOON, "web1")
        assert blocked(one) == ("maintenance", "new disks until 2026-05-04 13:00Z")
        assert blocked(two) == ("maintenance", "Paused until 2026-05-04 12:30Z")
        assert blocked(free) == ("", "")

    def test_window_for_all_jobs_is_named_for_each(self) -> None:
        jobs = [self.make_due_at(NOON) for _ in range(2)]
        make_maintenance(NOON, 60, pause=True, reason="new disks")
        explain_blocked(NOON, "web1")
        for job in jobs:
            assert blocked(job) == ("maintenance", "new disks until 2026-05-04 13:00Z")

    @pytest.mark.parametrize("minutes", [-20, -5, None])
    def test_absent_host_is_named_after_a_long_silence(
        self, settings: Any, minutes: int | None
    ) -> None:
        settings.CHRONIKER_OVERDUE_SECONDS = 600
        job = self.make_due_at(NOON, hostname="web9")
        free = self.make_due_at(NOON)
        moment = NOON + timedelta(hours=1)
        if minutes is not None:
            Host.objects.create(name="web9", last_tick_at=moment + timedelta(minutes=minutes))
        explain_absent_hosts(NOON + timedelta(seconds=599))
        assert blocked(job) == ("", "")
        explain_absent_hosts(moment)
        assert (
            blocked(job)
            == {
                None: ("host", "Host web9 has never ticked."),
                -20: ("host", "Host web9 last ticked at 2026-05-04 12:40Z."),
                -5: ("", ""),
            }[minutes]
        )
        assert blocked(free) == ("", "")

    def test_placement_on_an_absent_host_is_named(self) -> None:
        job = self.make_due_at(NOON, hostname="*")
        Host.objects.update(last_tick_at=NOON)
        explain_absent_hosts(NOON + timedelta(days=1))
        assert blocked(job) == ("host", "Host web1 last ticked at 2026-05-04 12:00Z.")

    def test_same_reason_is_not_written_again(self, django_assert_num_queries: Any) -> None:
        self.make_due_at(NOON)
        explain_full_host(NOON, "web1", 4)
        with django_assert_num_queries(1):
            explain_full_host(NOON, "web1", 4)


class TestUnmetDependencies:
    @pytest.fixture(autouse=True)
    def _host(self) -> None:
        Host.objects.create(name="web1")

    def pair(self, **conditions: bool) -> tuple[Job, Job]:
        """A downstream job that is due at noon, and its upstream job, which has no slot."""
        upstream = make_job(name="import")
        downstream = make_job(schedule="@every 1h", created_at=NOON - timedelta(hours=1))
        none = {f"wait_for_{name}": False for name in ("completion", "success", "next_run")}
        JobDependency.objects.create(downstream=downstream, upstream=upstream, **none | conditions)
        plan_changed_jobs(NOON - timedelta(hours=1))
        return upstream, downstream

    def explain(self, downstream: Job, upstream: Job, **fields: Any) -> str:
        JobState.objects.filter(job=upstream).update(**fields)
        explain_blocked(NOON, "web1")
        reason, detail = blocked(downstream)
        assert reason == ("dependency" if detail else "")
        return detail

    def test_running_and_due_upstream(self) -> None:
        up, down = self.pair(wait_for_completion=True)
        assert self.explain(down, up) == ""
        assert self.explain(down, up, run_requested_at=NOON) == "import is about to run"
        running = {"lease_token": "token", "lease_expires_at": NOON}
        assert self.explain(down, up, **running) == "import is running"

    def test_upstream_that_did_not_succeed(self) -> None:
        up, down = self.pair(wait_for_success=True)
        detail = "import has not succeeded (last status: never run)"
        assert self.explain(down, up) == detail
        detail = "import has not succeeded (last status: failed)"
        assert self.explain(down, up, last_status="failed") == detail

    def test_upstream_that_has_not_run_for_this_period(self) -> None:
        up, down = self.pair(wait_for_next_run=True)
        detail = "import has not yet run for this period"
        assert self.explain(down, up, next_slot_at=NOON) == detail
        JobState.objects.update(blocked_reason="", blocked_detail="")
        assert self.explain(down, up, next_slot_at=NOON + timedelta(seconds=1)) == ""
        assert self.explain(down, up, next_slot_at=None) == detail

    def test_each_upstream_is_named_once(self) -> None:
        up, down = self.pair(wait_for_success=True)
        other = make_job(name="fetch")
        plan_changed_jobs(NOON)
        JobDependency.objects.create(downstream=down, upstream=other)
        JobState.objects.filter(job=other).update(last_status="lost")
        detail = self.explain(down, up, last_status="failed")
        assert sorted(detail.split("; ")) == [
            "fetch has not succeeded (last status: lost)",
            "import has not succeeded (last status: failed)",
        ]

    def test_upstream_on_another_host_is_not_named(self) -> None:
        up, down = self.pair(wait_for_success=True)
        Host.objects.create(name="web2")
        Job.objects.update(hostname="*")
        plan_changed_jobs(NOON)
        make_due_states = JobState.objects.filter(job=down)
        make_due_states.exclude(host="").update(next_slot_at=NOON, next_run_at=NOON)
        JobState.objects.filter(job=up, host="web1").update(last_status="succeeded")
        explain_blocked(NOON, "web1")
        assert not JobState.objects.filter(job=down, host="web1").exclude(blocked_detail="")
        explain_blocked(NOON, "web2")
        detail = JobState.objects.get(job=down, host="web2").blocked_detail
        assert detail == "import has not succeeded (last status: never run)"
