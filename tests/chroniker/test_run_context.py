"""``current_run()`` and the environment of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import chroniker
from chroniker import run_context
from chroniker.enums import Trigger
from chroniker.models import Job, JobState, Run
from chroniker.run_context import CurrentRun
from tests.factories import make_due_job, make_job
from tests.support.runs import stored_output
from tests.support.types import RunManage, RunTick

NAMES = (
    "CHRONIKER_RUN_ID", "CHRONIKER_JOB_NAME", "CHRONIKER_SCHEDULED_FOR", "CHRONIKER_ATTEMPT",
    "CHRONIKER_TRIGGER", "CHRONIKER_FENCE",
)  # fmt: skip
PRINT_ENVIRONMENT = (
    f"import json, os; print(json.dumps([os.environb[n.encode()].decode() for n in {NAMES}]))"
)
HOSTILE = "tab\tand\nnewline=1 'quote' $(id) Grüße 日本 \U0001f600"
RUN = CurrentRun(
    run_id=7,
    job_name="report",
    scheduled_for=datetime(2026, 5, 4, 12, 30, 0, 250, tzinfo=UTC),
    attempt=2,
    trigger=Trigger.RETRY,
    fence=41,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run, and nothing found before."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(run_context, "_current", None)
    monkeypatch.setattr(run_context, "_searched", False)


@pytest.mark.usefixtures("outside")
class TestCurrentRun:
    def test_outside_a_run_there_is_none(self) -> None:
        assert chroniker.current_run() is None

    def test_is_read_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in RUN.environment().items():
            monkeypatch.setenv(name.decode(), value.decode())
        assert chroniker.current_run() == RUN

    @pytest.mark.parametrize("name", NAMES)
    def test_incomplete_environment_is_no_run(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        for key, value in RUN.environment().items():
            monkeypatch.setenv(key.decode(), value.decode())
        monkeypatch.delenv(name)
        assert chroniker.current_run() is None

    @pytest.mark.slow
    def test_costs_less_than_a_microsecond(self) -> None:
        chroniker.current_run()
        calls = range(100_000)
        began = time.process_time()
        for _ in calls:
            chroniker.current_run()
        assert (time.process_time() - began) / len(calls) < 2e-6

    def test_environment_is_in_utc(self) -> None:
        environment = {name.decode(): value.decode() for name, value in RUN.environment().items()}
        assert environment["CHRONIKER_SCHEDULED_FOR"] == "2026-05-04T12:30:00.000250Z"


@pytest.mark.django_db(transaction=True)
class TestInARun:
    @pytest.mark.parametrize("start_method", ["fork", "spawn"])
    def test_management_command_knows_its_run(
        self, run_tick: RunTick, settings: Any, start_method: str
    ) -> None:
        settings.CHRONIKER_START_METHOD = start_method
        job = make_due_job(name=HOSTILE, command="act", args="say_current_run")
        run_tick()
        run = Run.objects.get(job=job)
        assert run.status == "succeeded", run.error
        found = json.loads(stored_output(run, "stdout"))
        assert found == {
            "run_id": run.pk,
            "job_name": HOSTILE,
            "scheduled_for": run.scheduled_for.isoformat(),
            "attempt": 1,
            "trigger": "schedule",
            "fence": 1,
            "traceparent": "",
            "class": "CurrentRun",
        }

    @pytest.mark.parametrize("start_method", ["fork", "spawn"])
    def test_program_that_a_command_starts_has_the_environment(
        self, run_tick: RunTick, settings: Any, start_method: str
    ) -> None:
        settings.CHRONIKER_START_METHOD = start_method
        job = make_due_job(name=HOSTILE, command="act", args="say_environment " + " ".join(NAMES))
        run_tick()
        self.check(job)

    def test_raw_command_has_the_environment(self, run_tick: RunTick, settings: Any) -> None:
        settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
        job = make_due_job(
            name=HOSTILE, raw_command=f"{sys.executable} -c", args=f'"{PRINT_ENVIRONMENT}"'
        )
        run_tick()
        self.check(job)

    def check(self, job: Job) -> None:
        run = Run.objects.get(job=job)
        assert run.status == "succeeded", run.error
        slot = run.scheduled_for.astimezone(UTC).isoformat().replace("+00:00", "Z")
        assert json.loads(stored_output(run, "stdout")) == [
            str(run.pk), HOSTILE, slot, "1", "schedule", "1",
        ]  # fmt: skip

    @pytest.mark.one_database
    def test_locale_that_does_not_know_the_letters_of_the_name(self, manage: RunManage) -> None:
        job = make_due_job(name=HOSTILE)
        env = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        ended = manage("cron", env=env)
        assert ended.returncode == 0, ended.stderr
        assert Run.objects.get(job=job).status == "succeeded"

    def test_run_inside_a_run_is_the_inner_one(self, run_tick: RunTick, settings: Any) -> None:
        settings.CHRONIKER_ALLOWED_COMMANDS = ["act", "run_job"]
        inner = make_job(command="act", args="say_current_run")
        outer = make_due_job(command="run_job", args=str(inner.pk))
        run_tick()
        ended = Run.objects.get(job=outer)
        assert ended.status == "succeeded", ended.error
        run = Run.objects.get(job=inner)
        assert json.loads(stored_output(run, "stdout"))["run_id"] == run.pk

    def test_fence_grows_with_each_run(self, run_tick: RunTick) -> None:
        job = make_job(command="act", args="say_current_run")
        fences = []
        for number in range(1, 4):
            run_tick(only=frozenset([job.pk]), force=True)
            run = Run.objects.filter(job=job).latest("id")
            fences.append(json.loads(stored_output(run, "stdout"))["fence"])
            assert JobState.objects.get(job=job).fence == number
        assert fences == [1, 2, 3]


def test_importing_chroniker_imports_no_django() -> None:
    code = "import chroniker, sys; print('django' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, cwd=Path(chroniker.__file__).parents[1],
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.stdout == "False\n"
