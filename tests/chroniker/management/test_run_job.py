"""The ``run_job`` command."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.utils.timezone import now

from chroniker.models import JobState, Run
from tests.factories import make_action_job, make_due, make_due_job, make_job
from tests.support.processes import wait_until
from tests.support.types import RunManage, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestRunJob:
    def test_prints_the_output_and_exits_0(self, manage: RunManage) -> None:
        job = make_job(command="act", args="say hello", enabled=False)
        ended = manage("run_job", job.name)
        assert ended.returncode == 0
        assert ended.stdout.startswith("hello\n")
        assert f"{job.name}: succeeded after" in ended.stdout
        assert Run.objects.get(job=job).trigger == "manual"

    def test_exits_1_when_it_fails(self, manage: RunManage) -> None:
        job = make_job(command="act", args="fail boom")
        ended = manage("run_job", str(job.pk))
        assert ended.returncode == 1
        assert "ValueError: boom" in ended.stdout

    def test_running_job_is_reported(
        self, manage: RunManage, start_tick: StartTick, tmp_path: Path
    ) -> None:
        started = tmp_path / "started"
        job = make_action_job(f"sleep 100 {started}")
        tick = start_tick()
        wait_until(started.exists)
        ended = manage("run_job", job.name)
        assert ended.returncode == 1
        assert "it is running on" in ended.stderr
        JobState.objects.filter(job=job).request_stop(now())
        tick.wait(30)
        assert Run.objects.filter(job=job).count() == 1

    @pytest.mark.parametrize("command", ["run_job", "cron"])
    def test_job_that_deletes_its_own_row_ran(self, manage: RunManage, command: str) -> None:
        job = make_job(command="act", args="delete_own_job")
        words = [job.name] if command == "run_job" else ["--force-run", "--jobs", job.name]
        ended = manage(command, *words)
        assert ended.returncode == 0, ended.stderr
        if command == "run_job":
            assert f"{job.name}: succeeded after" in ended.stdout
            assert "Nothing was recorded: its job was deleted while it ran." in ended.stdout
        assert not Run.objects.exists()

    def test_several_and_unknown_names_are_reported(self, manage: RunManage) -> None:
        one, two = make_job(), make_job()
        assert manage("run_job", one.name, two.name, "-q").returncode == 0
        assert Run.objects.count() == 2
        ended = manage("run_job", "nobody")
        assert ended.returncode == 1 and "There is no job nobody" in ended.stderr


def test_runs_the_named_job_once(manage: RunManage) -> None:
    other = make_due_job(schedule="@every 1s")
    named = make_job(name=str(other.pk), command="act", args="say named")
    ended = manage("run_job", f" {other.pk} ")
    assert ended.returncode == 0
    assert list(Run.objects.values_list("job", flat=True)) == [named.pk]
    make_due(other)
    assert manage("run_job", other.name).returncode == 0
    assert Run.objects.filter(job=other).count() == 1
