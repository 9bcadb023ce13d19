"""The status and the message of each ending of a run."""

from __future__ import annotations

import itertools
import signal
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker.db.transactions import run_transaction
from chroniker.engine.completion import FinishedRun, end_run, is_recorded, release
from chroniker.enums import RunStatus
from chroniker.models import Incident, Job, JobDependency, JobState, Notification, OutputChunk, Run
from chroniker.processes.output import OutputBatch, OutputPiece
from chroniker.processes.running_child import Outcome
from tests.factories import NOON, make_action_job, make_due_job, make_job, make_user, start_run
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("action", "status", "exit_code", "signal_number", "error"),
    [
        ("say hello", "succeeded", 0, None, ""),
        ("exit 0", "succeeded", 0, None, ""),
        ("exit 3", "failed", 3, None, "exit code 3"),
        ("exit 256", "failed", 1, None, "exit code 256"),
        ("exit_at_once 3", "failed", 3, None, "Ended with exit code 3."),
        ("exit_with_message 'no stock left'", "failed", 1, None, "no stock left"),
        ("fail boom", "failed", 1, None, "ValueError: boom"),
        ("refuse 'no such file'", "failed", 1, None, "CommandError: no such file"),
        ("crash", "failed", None, signal.SIGSEGV, "Killed by signal 11 SIGSEGV."),
        ("signal_self 40", "failed", None, 40, "Killed by signal 40."),
        ("fail_without_stderr descriptor", "failed", 1, None, "ValueError: boom"),
        ("fail_without_stderr stream", "failed", 1, None, "ValueError: boom"),
        ("fail_without_stderr nothing", "failed", 1, None, "ValueError: boom"),
        ("drop_streams", "succeeded", 0, None, ""),
        ("exit_with_unprintable_code", "failed", 1, None, "exit with an unprintable Strange"),
        ("write_stderr x", "succeeded", 0, None, ""),
        ("warn careful", "succeeded", 0, None, ""),
    ],
)
def test_each_ending_has_its_status_and_a_message(
    run_tick: RunTick,
    settings: Any,
    start_method: str,
    action: str,
    status: str,
    exit_code: int | None,
    signal_number: int | None,
    error: str,
) -> None:
    settings.CHRONIKER_START_METHOD = start_method
    job = make_action_job(action)
    assert run_tick().exit_code == 0
    run = Run.objects.get(job=job)
    assert (run.status, run.exit_code, run.signal, run.error) == (
        status, exit_code, signal_number, error,
    )  # fmt: skip
    state = JobState.objects.get(job=job)
    assert state.runs_total == 1
    assert state.failures_error == (0 if status == "succeeded" else 1)
    assert state.consecutive_failures == state.failures_error
    assert state.lease_token is None and state.current_run is None
    assert sum(state.duration_buckets.values()) == state.duration_count == 1
    assert run.duration_seconds is not None and run.duration_seconds > 0
    assert run.cpu_seconds is not None and run.cpu_seconds > 0
    assert run.max_rss_bytes is not None and run.max_rss_bytes > 2**20


def test_stderr_is_failure_only_if_configured(run_tick: RunTick) -> None:
    strict, lenient = (
        make_action_job("write_stderr x", stderr_is_failure=True),
        make_action_job("write_stderr x"),
    )
    logging = make_action_job("log x", stderr_is_failure=True)
    run_tick()
    assert Run.objects.get(job=strict).status == "failed"
    assert "stderr" in Run.objects.get(job=strict).error
    assert Run.objects.get(job=lenient).status == "succeeded"
    assert Run.objects.get(job=logging).status == "succeeded", "logging is not an error"


def test_out_of_range_numbers_affect_only_their_job(run_tick: RunTick) -> None:
    huge = 2**31 - 1
    bad = make_action_job("exit 1", max_retries=99, retry_delay_seconds=huge, jitter_seconds=0)
    good = make_due_job()
    assert run_tick().exit_code == 0
    assert Run.objects.get(job=good).status == "succeeded"
    assert JobState.objects.get(job=bad).retry_at is not None


_minutes = itertools.count(1)


def finish(job: Job, status: RunStatus, error: str = "", **fields: Any) -> FinishedRun:
    """A run of the job that has ended at noon; its end is not written."""
    outcome: dict[str, Any] = {
        name: fields.pop(name)
        for name in ("seconds", "cpu_seconds", "max_rss_bytes", "exit_code", "signal")
        if name in fields
    }
    run: dict[str, Any] = {
        name: fields.pop(name) for name in ("trigger", "attempt", "scheduled_for") if name in fields
    }
    slot = NOON - timedelta(minutes=next(_minutes))
    state = start_run(job, slot, fields.pop("host", ""))
    state.refresh_from_db()
    assert state.current_run is not None and state.lease_token is not None
    if run:
        Run.objects.filter(pk=state.current_run.pk).update(**run)
        state.current_run.refresh_from_db()
    return FinishedRun(
        state=state,
        job=job,
        run=state.current_run,
        token=state.lease_token,
        outcome=Outcome(status, error, **outcome),
        ended_at=NOON,
        **{"has_downstream": False} | fields,
    )


def write_end(job: Job, status: RunStatus, error: str = "", **fields: Any) -> JobState:
    """Write the end of a run; the state afterwards."""
    ended = finish(job, status, error, **fields)
    assert run_transaction(lambda: end_run(ended))
    return JobState.objects.get(pk=ended.state.pk)


class TestCounters:
    def test_success_is_counted_and_ends_a_series_of_failures(self) -> None:
        job = make_job(failures_before_alert=5)
        for number in (1, 2):
            state = write_end(job, RunStatus.FAILED, "boom")
            assert state.consecutive_failures == number
        assert (state.last_failure_at, state.last_success_at) == (NOON, None)
        assert (state.last_error, state.last_status) == ("boom", "failed")
        state = write_end(job, RunStatus.SUCCEEDED)
        assert (state.consecutive_failures, state.last_success_at) == (0, NOON)
        assert (state.runs_total, state.failures_error) == (3, 2)
        assert (state.last_status, state.last_error, state.last_ended_at) == (
            "succeeded", "", NOON,
        )  # fmt: skip
        assert state.last_run == Run.objects.order_by("pk").last()
        assert (state.lease_token, state.lease_expires_at, state.current_run) == (None, None, None)

    @pytest.mark.parametrize(
        ("status", "counter", "consecutive"),
        [
            (RunStatus.FAILED, "failures_error", 1),
            (RunStatus.TIMED_OUT, "failures_timeout", 1),
            (RunStatus.LOST, "failures_lost", 1),
            (RunStatus.STOPPED, "failures_stopped", 0),
        ],
    )
    def test_each_failure_has_its_counter(
        self, status: RunStatus, counter: str, consecutive: int
    ) -> None:
        state = write_end(make_job(max_retries=1, count_attempts=True), status)
        counters = ("failures_error", "failures_timeout", "failures_lost", "failures_stopped")
        assert {name: getattr(state, name) for name in counters} == {
            name: int(name == counter) for name in counters
        }
        assert state.consecutive_failures == consecutive
        assert (state.retry_at is not None) == bool(consecutive), "a stopped run is not retried"
        assert Incident.objects.open().exists() == bool(consecutive)

    def test_durations_and_cpu_time_add_up(self) -> None:
        job = make_job()
        write_end(job, RunStatus.SUCCEEDED, seconds=0.2, cpu_seconds=0.1, max_rss_bytes=5)
        state = write_end(job, RunStatus.FAILED, seconds=3.0, cpu_seconds=1.5, max_rss_bytes=7)
        assert (state.duration_count, sum(state.duration_buckets.values())) == (2, 2)
        assert state.duration_seconds_sum == pytest.approx(3.2)
        assert state.cpu_seconds_total == pytest.approx(1.6)
        assert (state.last_duration_seconds, state.last_max_rss_bytes) == (3.0, 7)

    def test_run_of_unknown_duration_leaves_the_histogram_alone(self) -> None:
        job = make_job()
        write_end(job, RunStatus.SUCCEEDED, seconds=0.2, cpu_seconds=0.1, max_rss_bytes=5)
        state = write_end(job, RunStatus.LOST)
        assert (state.duration_count, state.last_duration_seconds) == (1, 0.2)
        assert (state.cpu_seconds_total, state.last_max_rss_bytes) == (0.1, 5)

    def test_long_error_is_cut_in_the_state_only(self) -> None:
        state = write_end(make_job(), RunStatus.FAILED, "x" * 600)
        assert state.last_error == "x" * 500
        assert Run.objects.get().error == "x" * 600


class TestRecord:
    def test_row_of_the_run_has_everything(self) -> None:
        write_end(
            make_job(), RunStatus.FAILED, "boom", seconds=2.0, cpu_seconds=1.0, max_rss_bytes=9,
            exit_code=3, signal=15, parts=(10, 4), pid=4711,
            written={"stdout": 5, "stderr": 6, "log": 7},
            output=OutputBatch([OutputPiece("stdout", 0, 5, "hello")]),
        )  # fmt: skip
        run = Run.objects.get()
        assert (run.status, run.error, run.ended_at) == ("failed", "boom", NOON)
        assert (run.duration_seconds, run.cpu_seconds, run.max_rss_bytes) == (2.0, 1.0, 9)
        assert (run.exit_code, run.signal, run.pid) == (3, 15, 4711)
        assert (run.parts_total, run.parts_done) == (10, 4)
        assert (run.stdout_bytes, run.stderr_bytes, run.log_bytes) == (5, 6, 7)
        assert OutputChunk.objects.get().text == "hello"
        state = JobState.objects.get()
        assert (state.parts_total, state.parts_done) == (10, 4)

    def test_progress_without_a_total_has_none(self) -> None:
        state = write_end(make_job(), RunStatus.SUCCEEDED, parts=(0, 4))
        assert (state.parts_total, state.parts_done) == (None, 4)

    def test_receivers_see_the_run_as_it_was_written(self) -> None:
        ended = finish(make_job(), RunStatus.FAILED, "boom", seconds=2.0, exit_code=3, signal=15)
        run_transaction(lambda: end_run(ended))
        run, stored = ended.updated_run(), Run.objects.get()
        for name in ("status", "ended_at", "duration_seconds", "exit_code", "signal", "error"):
            assert getattr(run, name) == getattr(stored, name), name

    def test_deleted_run_is_counted_and_linked_nowhere(self) -> None:
        ended = finish(make_job(email_on_success=True), RunStatus.SUCCEEDED, run_deleted=True)
        Run.objects.all().delete()
        assert run_transaction(lambda: end_run(ended))
        state = JobState.objects.get()
        assert (state.runs_total, state.last_run) == (1, None)


class TestFencing:
    def test_nothing_is_written_with_a_token_that_does_not_own_the_state(self) -> None:
        ended = finish(make_job(), RunStatus.FAILED, "boom", has_downstream=True)
        JobState.objects.update(lease_token="another host's")
        ended.output = OutputBatch([OutputPiece("stdout", 0, 5, "hello")])
        assert not run_transaction(lambda: end_run(ended))
        assert Run.objects.get().status == "running"
        assert JobState.objects.get().runs_total == 0
        assert not OutputChunk.objects.exists() and not Incident.objects.exists()

    def test_others_may_end_a_run_only_after_its_lease(self) -> None:
        ended = finish(make_job(), RunStatus.LOST)
        JobState.objects.update(lease_expires_at=utc_now() + timedelta(minutes=1))
        assert not run_transaction(lambda: end_run(ended, only_if_stale=True))
        assert Run.objects.get().status == "running"
        JobState.objects.update(lease_expires_at=utc_now() - timedelta(minutes=1))
        assert run_transaction(lambda: end_run(ended, only_if_stale=True))
        assert Run.objects.get().status == "lost"

    def test_earlier_record_of_the_same_end_is_recognised(self) -> None:
        ended = finish(make_job(), RunStatus.SUCCEEDED)
        assert not is_recorded(ended)
        run_transaction(lambda: end_run(ended))
        assert is_recorded(ended)
        ended.outcome = Outcome(RunStatus.FAILED)
        assert not is_recorded(ended), "another host has written another end"

    def test_released_state_has_no_owner_and_its_run_is_lost(self) -> None:
        ended = finish(make_job(), RunStatus.LOST, "refused " + "x" * 600)
        other = start_run(make_job(), NOON)
        release(ended)
        run = Run.objects.get(pk=ended.run.pk)
        assert (run.status, run.ended_at) == ("lost", NOON)
        assert run.error == ("refused " + "x" * 600)[:500]
        state = JobState.objects.get(pk=ended.state.pk)
        assert (state.lease_token, state.lease_expires_at, state.current_run) == (None, None, None)
        other.refresh_from_db()
        assert other.lease_token and Run.objects.get(pk=other.current_run_id).status == "running"

    def test_state_of_another_owner_is_not_released(self) -> None:
        ended = finish(make_job(), RunStatus.LOST)
        JobState.objects.update(lease_token="another host's")
        release(ended)
        assert JobState.objects.get().lease_token == "another host's"
        assert Run.objects.get().status == "running"


class TestRetryDelay:
    @pytest.mark.parametrize(
        ("attempt", "minutes"), [(1, 10), (2, 20), (3, 40), (4, None)], ids=str
    )
    def test_delay_doubles_until_the_retries_are_used_up(
        self, attempt: int, minutes: int | None
    ) -> None:
        job = make_job(max_retries=3, retry_delay_seconds=600)
        slot = NOON - timedelta(hours=2)
        state = write_end(job, RunStatus.FAILED, attempt=attempt, scheduled_for=slot)
        if minutes is None:
            assert (state.retry_at, state.retry_slot_at) == (None, None)
        else:
            assert state.retry_at == NOON + timedelta(minutes=minutes)
            assert (state.retry_slot_at, state.retry_attempt) == (slot, attempt + 1)

    def test_delay_is_at_most_ten_years(self) -> None:
        job = make_job(max_retries=100, retry_delay_seconds=10**8)
        state = write_end(job, RunStatus.FAILED, attempt=99)
        assert state.retry_at == NOON + timedelta(days=3650)

    def test_success_and_manual_runs_are_not_retried(self) -> None:
        job = make_job(max_retries=3)
        assert write_end(job, RunStatus.SUCCEEDED).retry_at is None
        assert write_end(job, RunStatus.FAILED, trigger="manual").retry_at is None
        assert write_end(job, RunStatus.FAILED, trigger="dependency").retry_at is not None


class TestDownstreams:
    @pytest.fixture
    def upstream(self) -> Job:
        return make_job()

    def make_downstream(self, upstream: Job, *hosts: str, **fields: Any) -> Job:
        success = fields.pop("wait_for_success", True)
        job = make_job(**fields)
        JobDependency.objects.create(upstream=upstream, downstream=job, wait_for_success=success)
        for host in hosts or ("",):
            JobState.objects.create(job=job, host=host)
        return job

    def requested(self) -> set[tuple[int, str]]:
        states = JobState.objects.filter(run_requested_at__isnull=False)
        return set(states.values_list("job", "host"))

    def test_success_requests_unscheduled_downstreams_for_the_slot_of_the_upstream(
        self, upstream: Job
    ) -> None:
        job = self.make_downstream(upstream)
        self.make_downstream(upstream, schedule="@daily")
        self.make_downstream(upstream, enabled=False)
        self.make_downstream(make_job())
        slot = NOON - timedelta(hours=2)
        write_end(upstream, RunStatus.SUCCEEDED, has_downstream=True, scheduled_for=slot)
        assert self.requested() == {(job.pk, "")}
        state = JobState.objects.get(job=job)
        assert (state.run_requested_at, state.run_requested_by) == (slot, "dependency")

    def test_failure_requests_only_those_that_do_not_wait_for_success(self, upstream: Job) -> None:
        self.make_downstream(upstream)
        job = self.make_downstream(upstream, wait_for_success=False)
        write_end(upstream, RunStatus.FAILED, has_downstream=True)
        assert self.requested() == {(job.pk, "")}

    def test_earlier_request_is_kept(self, upstream: Job) -> None:
        job = self.make_downstream(upstream)
        JobState.objects.filter(job=job).request_run(NOON - timedelta(days=1))
        write_end(upstream, RunStatus.SUCCEEDED, has_downstream=True)
        state = JobState.objects.get(job=job)
        assert state.run_requested_at == NOON - timedelta(days=1)
        assert state.run_requested_by == "manual"

    def test_end_on_one_host_requests_that_host_only(self) -> None:
        upstream = make_job(hostname="*")
        everywhere = self.make_downstream(upstream, "web1", "web2", hostname="*")
        once = self.make_downstream(upstream)
        write_end(upstream, RunStatus.SUCCEEDED, has_downstream=True, host="web1")
        assert self.requested() == {(everywhere.pk, "web1"), (once.pk, "")}

    def test_end_of_a_job_that_runs_once_requests_all_hosts(self, upstream: Job) -> None:
        job = self.make_downstream(upstream, "", "web1", "web2", hostname="*")
        write_end(upstream, RunStatus.SUCCEEDED, has_downstream=True)
        assert self.requested() == {(job.pk, "web1"), (job.pk, "web2")}, "not the former placement"


class TestIncidents:
    def test_incident_opens_after_the_configured_number_of_failures(self) -> None:
        job = make_job(failures_before_alert=2)
        assert not write_end(job, RunStatus.FAILED, "boom").failing_incident
        assert not Incident.objects.exists()
        state = write_end(job, RunStatus.FAILED, "boom again")
        incident = Incident.objects.open().get()
        assert state.failing_incident
        assert (incident.kind, incident.severity, incident.summary) == (
            "failing", "warning", "boom again",
        )  # fmt: skip
        assert incident.opened_at == NOON

    def test_failure_without_an_error_says_how_it_ended(self) -> None:
        write_end(make_job(), RunStatus.TIMED_OUT)
        assert Incident.objects.get().summary == "The run timed_out."

    def test_open_incident_is_updated_by_each_failure_and_resolved_by_a_success(self) -> None:
        job = make_job(failures_before_alert=2)
        for _ in range(2):
            write_end(job, RunStatus.FAILED)
        write_end(job, RunStatus.FAILED, "boom")
        assert Incident.objects.open().get().summary == "boom"
        assert not write_end(job, RunStatus.SUCCEEDED).failing_incident
        incident = Incident.objects.get()
        assert (incident.is_open, incident.resolved_at) == (False, NOON)

    def test_stopped_run_neither_opens_nor_resolves(self) -> None:
        job = make_job()
        write_end(job, RunStatus.STOPPED)
        assert not Incident.objects.exists()
        write_end(job, RunStatus.FAILED)
        assert write_end(job, RunStatus.STOPPED).failing_incident
        assert Incident.objects.open().exists()

    def test_job_whose_failures_open_no_incidents(self) -> None:
        state = write_end(make_job(failures_open_incidents=False), RunStatus.FAILED)
        assert (state.failures_error, state.failing_incident) == (1, False)
        assert not Incident.objects.exists()

    @pytest.mark.parametrize("wanted", [True, False])
    def test_success_is_notified_if_wanted(self, wanted: bool) -> None:
        job = make_job(email_on_success=wanted)
        job.subscribers.add(make_user("ann"))
        write_end(job, RunStatus.SUCCEEDED)
        assert Notification.objects.filter(event="succeeded").exists() == wanted
