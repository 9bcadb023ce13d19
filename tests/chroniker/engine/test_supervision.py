"""The runs of one scheduler, from their start to the record of their end, without its loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker.db.backoff import Backoff
from chroniker.db.clock import boottime
from chroniker.engine.completion import FinishedRun
from chroniker.engine.finisher import BATCH_SECONDS
from chroniker.engine.supervision import Supervision
from chroniker.engine.tick_clock import TickClock
from chroniker.models import Job, JobState, Run
from chroniker.signals import run_started
from tests.factories import make_job
from tests.support.processes import wait_until
from tests.support.runs import request_stop, stored_output
from tests.support.timeline import Timeline

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.no_leftovers]


class Supervised(Supervision):
    """A supervision, and the keys of the runs that it has reported as recorded."""

    def __init__(self) -> None:
        self.recorded: list[int] = []
        self.after_recording: Callable[[], None] = lambda: None
        self.lost: list[int] = []
        super().__init__(
            TickClock(),
            lambda action, backoff=None: action(),
            self._note,
            long_running=False,
            on_unrecorded=lambda finished: self.lost.append(finished.run.pk),
            shutdown_reason=str,
        )

    def _note(self, finished: FinishedRun) -> None:
        self.recorded.append(finished.run.pk)
        self.after_recording()

    def start_jobs(self, *jobs: Job) -> list[int]:
        """Claim the jobs and start them; the keys of the runs."""
        claimed = [Timeline().start(job) for job in jobs]
        self.start(claimed, boottime())
        return [item.run.pk for item in claimed]

    def run_until(self, done: Callable[[], object]) -> None:
        def step() -> object:
            self.poll(0.05)
            self.maintain(nearly_idle=True)
            return done()

        wait_until(step, timeout=20)


@pytest.fixture
def runs(own_runtime_dir: None) -> Iterator[Supervised]:
    supervised = Supervised()
    yield supervised
    supervised.close()


def act(action: str) -> Job:
    return make_job(command="act", args=action)


def test_nothing_is_busy_before_the_first_start(runs: Supervised) -> None:
    assert not runs.busy and not runs.started
    assert not runs.poll(0)
    assert runs.longest_wait(0.5) == 0.5
    runs.maintain(nearly_idle=True)
    assert runs.recorded == []


def test_run_is_announced_supervised_and_recorded(runs: Supervised) -> None:
    announced: list[tuple[Run, Job]] = []

    def receive(**details: Any) -> None:
        announced.append((details["run"], details["job"]))

    run_started.connect(receive)
    try:
        job = act("say hello")
        (key,) = runs.start_jobs(job)
    finally:
        run_started.disconnect(receive)
    run = Run.objects.get()
    assert announced == [(run, job)]
    assert runs.busy and runs.started and set(runs.active) == {key}
    assert runs.longest_wait(0.5) == 0.5
    wait_until(lambda: runs.poll(0.1), timeout=20)
    assert runs.busy and not runs.active, "the end is not written"
    assert runs.longest_wait(0.5) == BATCH_SECONDS
    runs.maintain(nearly_idle=True)
    assert not runs.busy
    assert runs.recorded == [key]
    run.refresh_from_db()
    assert run.status == "succeeded" and stored_output(run, "stdout") == "hello\n"


def test_refused_run_is_recorded_as_failed(runs: Supervised) -> None:
    (key,) = runs.start_jobs(make_job(command="shell"))
    assert runs.busy and not runs.active and not runs.started
    runs.maintain(nearly_idle=True)
    assert runs.recorded == [key] and not runs.busy
    assert Run.objects.get().status == "failed"


def test_chosen_runs_are_stopped_with_the_reason(runs: Supervised) -> None:
    first, second = runs.start_jobs(act("sleep 60"), act("sleep 60"))
    runs.stop([first], "The machine is going down.")
    runs.run_until(lambda: runs.recorded)
    assert runs.recorded == [first] and set(runs.active) == {second}
    run = Run.objects.get(pk=first)
    assert (run.status, run.error) == ("stopped", "The machine is going down.")
    runs.stop(runs.active, "All of them.")
    runs.run_until(lambda: not runs.busy)


def test_stop_request_is_read_within_seconds(runs: Supervised) -> None:
    job = act("sleep 60")
    started = time.monotonic()
    (key,) = runs.start_jobs(job)
    request_stop(job)
    runs.run_until(lambda: not runs.busy)
    assert time.monotonic() - started < 10
    assert Run.objects.get(pk=key).error == "Stopped on request."


def test_leases_are_renewed_while_something_runs(runs: Supervised, settings: Any) -> None:
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.01
    runs.start_jobs(act("sleep 60"))
    JobState.objects.update(lease_expires_at=utc_now() - timedelta(minutes=1))
    runs.run_until(lambda: not JobState.objects.stale().exists())
    runs.stop(runs.active, "Enough.")
    runs.run_until(lambda: not runs.busy)


class SlowReceiver:
    """A receiver that takes longer than a lease, and how many leases had run out when called."""

    def __init__(self) -> None:
        self.stale: list[int] = []

    def __call__(self, **_: object) -> None:
        self.stale.append(JobState.objects.stale().count())
        JobState.objects.update(lease_expires_at=utc_now() - timedelta(minutes=1))


def test_leases_are_renewed_while_many_starts_are_announced(
    runs: Supervised, settings: Any
) -> None:
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0
    receive = SlowReceiver()
    run_started.connect(receive)
    try:
        runs.start_jobs(*(act("sleep 60") for _ in range(3)))
    finally:
        run_started.disconnect(receive)
    assert receive.stale == [0, 0, 0]
    runs.stop(runs.active, "Enough.")
    runs.run_until(lambda: not runs.busy)


def test_leases_are_renewed_while_many_ends_are_announced(runs: Supervised, settings: Any) -> None:
    runs.start_jobs(act("sleep 60"), *(act("say hello") for _ in range(3)))

    def ended() -> bool:
        runs.poll(0.05)
        return len(runs.active) == 1

    wait_until(ended, timeout=20)
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0
    receive = runs.after_recording = SlowReceiver()
    runs.maintain(nearly_idle=True)
    assert receive.stale == [0, 0, 0]
    runs.after_recording = lambda: None
    runs.stop(runs.active, "Enough.")
    runs.run_until(lambda: not runs.busy)


def test_run_whose_lease_was_lost_is_ended_and_not_recorded(
    runs: Supervised, settings: Any
) -> None:
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.01
    (key,) = runs.start_jobs(act("sleep 60"))
    JobState.objects.update(lease_token="another host's")
    runs.run_until(lambda: not runs.busy)
    assert (runs.recorded, runs.lost) == ([], [key])
    assert Run.objects.get().status == "running", "for its owner to end"


def test_leases_of_ended_runs_are_forgotten(runs: Supervised, settings: Any) -> None:
    settings.CHRONIKER_LEASE_SECONDS = 60
    first, _second = runs.start_jobs(act("sleep 60"), act("sleep 60"))
    tokens = [run.claimed.token for run in runs.active.values()]
    for token in tokens:
        runs.leases.acquire(token, boottime() - 1000)
    runs.stop([first], "Enough.")
    runs.run_until(lambda: runs.recorded)
    runs.maintain(nearly_idle=True)
    assert [runs.leases.lost_for_long(token) for token in tokens] == [False, True]
    runs.stop(runs.active, "Enough.")
    runs.run_until(lambda: not runs.busy)


@pytest.mark.parametrize("finished", [True, False])
def test_owner_file_stays_if_runs_are_left(
    own_runtime_dir: None, tmp_path: Any, finished: bool
) -> None:
    runs = Supervised()
    path = tmp_path / "runtime" / runs.launcher.owner_name()
    runs.start_jobs(act("sleep 0" if finished else "sleep 60"))
    if finished:
        runs.run_until(lambda: not runs.busy)
    runs.close()
    assert path.exists() != finished


def test_renewals_have_a_backoff_of_their_own(own_runtime_dir: None, settings: Any) -> None:
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0
    used: list[Backoff | None] = []
    runs = Supervision(
        TickClock(),
        lambda _action, backoff: used.append(backoff),
        print,
        long_running=False,
        on_unrecorded=print,
        shutdown_reason=str,
    )
    runs.start([Timeline().start(act("sleep 60"))], boottime())
    runs.maintain(nearly_idle=False)
    assert set(used) == {runs.leases.backoff}
    runs.close()
