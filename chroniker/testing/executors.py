"""Tests that every executor must pass, for pytest.

A site runs them against an executor of its own:

    class TestKubernetes(RemoteExecutorContract):
        executor_name = "kubernetes"

        @pytest.fixture(autouse=True)
        def workers(self, settings):
            settings.CHRONIKER_EXECUTORS = {"kubernetes": "shop.pods.PodExecutor"}
            settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
            ...  # start what executes one run of the queue CHRONIKER_QUEUE at a time, or more

The jobs are programs (``python -c …``), so the workers need ``CHRONIKER_ALLOW_RAW_COMMANDS``. The
tests look only into the database, so workers may be on other machines.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from django.db import connections
from django.utils.timezone import now as utc_now

from chroniker.conf import conf
from chroniker.db.transactions import run_transaction
from chroniker.engine.candidates import ClaimOptions, QueueRoom
from chroniker.engine.claims import claim, new_token
from chroniker.engine.orders import order_of, withdraw
from chroniker.engine.planning import plan_changed_jobs
from chroniker.engine.queues import Queue
from chroniker.engine.scheduler import Scheduler
from chroniker.enums import BlockedReason, RunStatus
from chroniker.executors.base import RemoteExecutor, RunOrder
from chroniker.executors.registry import make_remote_executor
from chroniker.models import Host, Job, JobState, OutputChunk, Run

if TYPE_CHECKING:
    StartTick = Callable[[], "Tick"]

HELLO = "print('hello')"
SLEEP = "import time; print('asleep', flush=True); time.sleep(120)"
PROGRESS = "import os; os.write(int(os.environ['CHRONIKER_PROGRESS_FD']), b'3/7\\n')"


class Tick:
    """A tick in a fork of this process, as cron starts it."""

    def __init__(self) -> None:
        connections.close_all()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                Scheduler().run()
                code = 0
            finally:
                os._exit(code)

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


class ExecutorContract:
    """What holds for each run, wherever it is executed."""

    executor_name: ClassVar[str] = "local"
    patience_seconds: ClassVar[float] = 30.0
    """How long a run may take to start, or to end after it was asked to."""

    pytestmark = pytest.mark.django_db(transaction=True)

    @pytest.fixture
    def start_tick(self) -> Iterator[StartTick]:
        """``start_tick()``: a tick in a fork, which is killed at the end."""
        started: list[Tick] = []

        def start() -> Tick:
            started.append(Tick())
            return started[-1]

        yield start
        for tick in started:
            tick.kill()

    # --- helpers ---

    def make_job(self, code: str, **fields: Any) -> Job:
        """A due job that runs Python code."""
        fields.setdefault("name", f"job {time.monotonic_ns()}")
        fields.setdefault("created_at", utc_now() - timedelta(minutes=61))
        return Job.objects.create(
            raw_command=shlex.join([sys.executable, "-c", code]),
            schedule="@every 1h",
            executor=self.executor_name,
            **fields,
        )

    def wait_for(self, what: str, condition: Callable[[], object]) -> None:
        """Wait until the condition is true."""
        until = time.monotonic() + self.patience_seconds
        while not condition():
            assert time.monotonic() < until, f"waited for: {what}"
            time.sleep(0.05)

    def wait_for_end(self, job: Job) -> Run:
        """The run of a job, once it has ended."""
        self.wait_for(f"the end of {job}", Run.objects.filter(job=job).ended().exists)
        return Run.objects.get(job=job)

    def wait_for_output(self, job: Job) -> None:
        """Wait until output of a running run is stored."""
        self.wait_for(f"output of {job}", OutputChunk.objects.filter(run__job=job).exists)

    # --- tests ---

    def test_run_succeeds_with_its_output(self, start_tick: StartTick) -> None:
        """The output, the counters and where it ran are recorded, and the lease is released."""
        job = self.make_job(HELLO)
        assert start_tick().wait() == 0
        run = self.wait_for_end(job)
        assert (run.status, run.exit_code, run.error) == (RunStatus.SUCCEEDED, 0, "")
        assert run.ran_on and run.duration_seconds is not None and run.started_at is not None
        assert "".join(chunk.text for chunk in OutputChunk.objects.filter(run=run)) == "hello\n"
        state = JobState.objects.get(job=job)
        assert (state.runs_total, state.start_lag_count, state.lease_token) == (1, 1, None)

    def test_exit_code_and_progress_of_a_failure(self, start_tick: StartTick) -> None:
        """A failure is no success, and progress is kept."""
        job = self.make_job(f"{PROGRESS}; raise SystemExit(3)")
        start_tick().wait()
        run = Run.objects.get(job=job)
        assert (run.status, run.exit_code) == (RunStatus.FAILED, 3)
        assert (run.parts_done, run.parts_total) == (3, 7)
        assert JobState.objects.get(job=job).consecutive_failures == 1

    def test_output_is_stored_while_it_runs_and_a_person_stops_it(
        self, start_tick: StartTick
    ) -> None:
        """The request is a column of the state."""
        job = self.make_job(SLEEP)
        start_tick()
        self.wait_for_output(job)
        assert JobState.objects.filter(job=job).request_stop() == 1
        run = self.wait_for_end(job)
        assert (run.status, run.error) == (RunStatus.STOPPED, "Stopped on request.")

    def test_run_times_out(self, start_tick: StartTick) -> None:
        """The timeout is the job's."""
        job = self.make_job(SLEEP, timeout_seconds=1)
        start_tick().wait()
        assert Run.objects.get(job=job).status == RunStatus.TIMED_OUT

    def test_run_that_has_lost_its_lease_ends_and_records_nothing(
        self, start_tick: StartTick
    ) -> None:
        """Another owner may be running the job by then."""
        job = self.make_job(SLEEP)
        start_tick()
        self.wait_for_output(job)
        assert JobState.objects.filter(job=job).update(lease_token=new_token()) == 1
        time.sleep(2 * conf.LEASE_RENEW_SECONDS + 1)
        assert Run.objects.get(job=job).status == RunStatus.RUNNING, "only its owner may end it"
        assert JobState.objects.get(job=job).runs_total == 0


class RemoteExecutorContract(ExecutorContract):
    """What holds in addition if workers execute the runs."""

    @pytest.fixture
    def executor(self) -> Iterator[RemoteExecutor]:
        """The executor, as a scheduler makes it."""
        made = make_remote_executor(self.executor_name)
        yield made
        made.close()

    def claim(self, *jobs: Job) -> list[RunOrder]:
        """Claim jobs, and publish nothing."""
        Host.objects.get_or_create(name=conf.HOSTNAME)
        now = utc_now()
        plan_changed_jobs(now)
        queue, only = Queue(self.executor_name, conf.QUEUE), frozenset(job.pk for job in jobs)
        room = QueueRoom(queue.executor, queue.name, queue.jobs, len(jobs))
        options = ClaimOptions(
            conf.HOSTNAME, "the contract", max_parallel=1, rooms=(room,), only=only
        )
        result = run_transaction(lambda: claim(options, now, now, new_token()))
        assert len(result.started) == len(jobs)
        return [order_of(item) for item in result.started]

    def test_order_that_is_delivered_twice_is_executed_once(self, executor: RemoteExecutor) -> None:
        """Brokers deliver at least once."""
        job = self.make_job(HELLO)
        orders = self.claim(job)
        assert executor.start(orders) == {}
        assert executor.start(orders) == {}
        run = self.wait_for_end(job)
        assert executor.start(orders) == {}
        self.run_another(executor)
        assert OutputChunk.objects.filter(run=run).count() == 1
        assert JobState.objects.get(job=job).runs_total == 1

    def test_order_that_was_withdrawn_does_nothing(self, executor: RemoteExecutor) -> None:
        """It may be delivered much later, when another run of the job has started."""
        job = self.make_job(HELLO)
        (order,) = self.claim(job)
        assert run_transaction(lambda: withdraw(order, "Nobody takes it."))
        executor.start([order])
        self.run_another(executor)
        assert not Run.objects.filter(job=job).exists()
        assert JobState.objects.get(job=job).due_at is not None, "the slot is due again"

    def run_another(self, executor: RemoteExecutor) -> None:
        """Execute another run, after which earlier orders have been looked at as well."""
        job = self.make_job(HELLO)
        executor.start(self.claim(job))
        self.wait_for_end(job)
        time.sleep(0.5)

    def test_lost_order_is_published_again(self, start_tick: StartTick) -> None:
        """The executor, or its broker, may forget what was published."""
        job = self.make_job(HELLO)
        self.claim(job)  # and publish nothing, as if it were lost
        JobState.objects.filter(job=job).update(lease_expires_at=utc_now() - timedelta(seconds=1))
        start_tick().wait()
        run = self.wait_for_end(job)
        assert (run.status, run.attempt) == (RunStatus.SUCCEEDED, 1)

    def test_death_of_the_scheduler_does_not_end_a_run(self, start_tick: StartTick) -> None:
        """The worker owns it."""
        job = self.make_job("import time; print('started', flush=True); time.sleep(3)")
        tick = start_tick()
        self.wait_for_output(job)
        tick.kill()
        assert self.wait_for_end(job).status == RunStatus.SUCCEEDED

    def test_queue_without_workers_is_reported_and_nothing_runs(
        self, executor: RemoteExecutor, start_tick: StartTick
    ) -> None:
        """Instead of an eternal "running". When a worker comes, the slot is still due."""
        if executor.capacity("nobody") is not None:
            pytest.skip("this executor needs no workers that report")
        job = self.make_job(HELLO, queue="nobody")
        start_tick().wait()
        state = JobState.objects.get(job=job)
        assert state.blocked_reason == BlockedReason.QUEUE
        assert "nobody" in state.blocked_detail
        assert not Run.objects.filter(job=job).exists() and state.due_at is not None
