"""Ticks from cron, runs by name, dry runs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker.conf import conf
from chroniker.engine.completion import FinishedRun
from chroniker.engine.entrypoints import due_jobs, force_jobs, run_jobs, run_single_tick
from chroniker.exceptions import HostNotReady
from chroniker.models import Host, Job, JobDependency, JobState, Run
from tests.factories import (
    make_action_job,
    make_due_job,
    make_job,
    make_maintenance,
    make_running,
)
from tests.support.recording_server import RecordingServer
from tests.support.types import RunInFork, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_ticks_with_a_pid_file_wait_for_each_other(
    start_tick: StartTick, settings: Any, tmp_path: Path, run_in_fork: RunInFork
) -> None:
    settings.CHRONIKER_USE_PID = True
    settings.CHRONIKER_PID_FILE = str(tmp_path / "cron.pid")
    make_action_job("sleep 1")
    make_action_job("sleep 1")

    def tick() -> float:
        import time

        from chroniker.engine.entrypoints import run_single_tick

        begun = time.monotonic()
        run_single_tick()
        return time.monotonic() - begun

    ticks = [run_in_fork(tick) for _ in range(4)]
    seconds = sorted(one.wait(30).value for one in ticks)
    assert Run.objects.filter(status="succeeded").count() == 2
    assert seconds[0] < 0.9, "one waits; further ones leave it to that one"
    assert seconds[-1] > 0.9


def names(**options: Any) -> list[str]:
    lines = due_jobs(options.pop("only", None), **{"force": False} | options)
    return [line.split(" (due ")[0] for line in lines]


class TestDueJobs:
    def test_due_jobs_are_listed_by_priority_and_then_by_time(self) -> None:
        made = utc_now() - timedelta(minutes=70)
        make_due_job(name="late")
        make_due_job(name="early", created_at=made)
        make_due_job(name="urgent", priority=1)
        make_job(name="not due", schedule="@every 1h")
        make_due_job(name="elsewhere", hostname="web9")
        paused = make_due_job(name="paused")
        make_maintenance(utc_now(), 60, paused, pause=True)
        assert names() == ["urgent", "early", "late"]
        due = made + timedelta(hours=1)
        assert due_jobs(None, force=False)[1] == f"early (due {due:%Y-%m-%d %H:%M:%S}Z)"
        assert not Run.objects.exists()

    def test_upstream_jobs_come_first(self) -> None:
        last, first = make_due_job(name="last", priority=1), make_due_job(name="first")
        JobDependency.objects.create(downstream=last, upstream=first)
        assert names() == ["first", "last"]

    def test_chosen_jobs_are_listed_if_due_or_forced(self) -> None:
        due, other = make_due_job(name="due"), make_job(name="other")
        both = frozenset([due.pk, other.pk])
        assert names(only=both) == ["due"]
        assert sorted(names(only=both, force=True)) == ["due", "other"]
        assert names(only=frozenset([other.pk])) == []
        assert names(only=frozenset([other.pk]), force=True) == ["other"]


def not_run(run_in_fork: RunInFork, *jobs: Job) -> list[tuple[str, str]]:
    """Run the jobs by name: which did not run, and why; and which are reported."""

    def work() -> tuple[list[str], list[tuple[str, str]]]:
        finished: list[str] = []

        def note(ended: FinishedRun) -> None:
            finished.append(ended.job.name)

        left = run_jobs(list(jobs), note)
        return finished, [(job.name, reason) for job, reason in left]

    result = run_in_fork(work).wait(60)
    assert result.exit_code == 0, result.output
    finished, left = result.value
    assert sorted(finished) == sorted(Run.objects.exclude(status="running").values_list(
        "job__name", flat=True
    ))  # fmt: skip
    assert {job.name for job in jobs} == {*finished, *(name for name, _ in left)}
    return left  # type: ignore[no-any-return]


class TestRunJobs:
    def test_jobs_that_did_not_run_have_the_reason(self, run_in_fork: RunInFork) -> None:
        good, other = make_action_job("leave 1", name="good"), make_due_job(name="not wanted")
        elsewhere = make_job(name="elsewhere", hostname="web9")
        paused = make_job(name="paused")
        window = make_maintenance(utc_now(), 60, paused, pause=True, reason="new disks")
        running = make_job(name="running")
        make_running(running, lease_host="web2")
        assert not_run(run_in_fork, good, elsewhere, paused, running) == [
            ("elsewhere", f"it runs on web9 only, and this is {conf.HOSTNAME}"),
            ("paused", f"a maintenance window pauses it ({window})"),
            ("running", "it is running on web2"),
        ]
        assert not Run.objects.filter(job=other).exists()

    def test_paused_host_runs_nothing_by_name(self, run_in_fork: RunInFork) -> None:
        Host.objects.create(name=conf.HOSTNAME, paused=True)
        job = make_job(name="a job")
        assert not_run(run_in_fork, job) == [
            ("a job", f"this host, {conf.HOSTNAME}, is paused; resume it in the admin")
        ]

    def test_capacity_does_not_count(self, run_in_fork: RunInFork, settings: Any) -> None:
        settings.CHRONIKER_MAX_PARALLEL = 1
        make_running(make_job(), lease_host=conf.HOSTNAME)
        assert not_run(run_in_fork, make_job()) == []


class TestSingleTick:
    def test_idle_tick_records_its_duration(self) -> None:
        run_single_tick()
        Host.objects.update(tick_seconds=None)
        run_single_tick()
        host = Host.objects.get()
        assert host.tick_seconds is not None and 0 <= host.tick_seconds < 10

    @pytest.mark.parametrize("only", [None, frozenset[int]()])
    def test_idle_tick_pings_the_deadman_url_unless_it_is_for_some_jobs_only(
        self,
        recording_server: RecordingServer,
        settings: Any,
        own_runtime_dir: None,
        only: frozenset[int] | None,
    ) -> None:
        run_single_tick()
        settings.CHRONIKER_DEADMAN_URL = f"{recording_server.url}/alive"
        run_single_tick(only=only)
        assert recording_server.requests == ([("GET", "/alive")] if only is None else [])

    def test_forced_job_runs_although_nothing_is_due(self, run_in_fork: RunInFork) -> None:
        job = make_job()

        def work() -> None:
            run_single_tick()
            run_single_tick()
            assert not Run.objects.exists()
            assert force_jobs([job]) == []

        assert run_in_fork(work).wait(60).exit_code == 0
        assert Run.objects.get().status == "succeeded"
        assert JobState.objects.get().runs_total == 1

    def test_unusable_pid_file_is_reported(self, settings: Any, tmp_path: Path) -> None:
        settings.CHRONIKER_USE_PID = True
        settings.CHRONIKER_PID_FILE = str(tmp_path / "missing" / "cron.pid")
        with pytest.raises(HostNotReady, match="CHRONIKER_PID_FILE cannot be locked"):
            run_single_tick()
        settings.CHRONIKER_PID_FILE = str(tmp_path)
        with pytest.raises(HostNotReady, match="CHRONIKER_PID_FILE cannot be locked"):
            run_single_tick()

    def test_pid_file_names_the_tick_and_is_free_afterwards(
        self, settings: Any, tmp_path: Path
    ) -> None:
        import os

        settings.CHRONIKER_USE_PID = True
        settings.CHRONIKER_PID_FILE = str(tmp_path / "cron.pid")
        for _ in range(2):
            run_single_tick()
            assert (tmp_path / "cron.pid").read_text() == f"{os.getpid()}\n"
