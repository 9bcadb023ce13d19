"""Capacity, priority and paused hosts; claims that the database rejects or does not confirm."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import DataError, InterfaceError, OperationalError
from django.utils.timezone import now as utc_now

from chroniker.engine.candidates import ClaimOptions
from chroniker.engine.claimer import Claimer
from chroniker.engine.leases import Leases
from chroniker.engine.planning import plan_changed_jobs
from chroniker.engine.tick_clock import TickClock
from chroniker.models import Host, Job, JobState, Run
from tests.factories import make_action_job, make_due_job, make_job
from tests.support.outage import failing_statements, lost_reply
from tests.support.processes import wait_until
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestHosts:
    def test_paused_host_starts_nothing(self, run_tick: RunTick) -> None:
        run_tick()
        Host.objects.update(paused=True)
        make_due_job()
        run_tick()
        assert not Run.objects.exists()

    def test_higher_priority_runs_first_at_capacity(self, run_tick: RunTick, settings: Any) -> None:
        settings.CHRONIKER_MAX_PARALLEL = 1
        for name, priority in (("low", -1), ("high", 5), ("middle", 0)):
            make_due_job(name=name, priority=priority)
        run_tick()
        assert list(Run.objects.order_by("id").values_list("job__name", flat=True)) == [
            "high", "middle", "low",
        ]  # fmt: skip

    def test_running_jobs_never_exceed_capacity(self, start_tick: StartTick, settings: Any) -> None:
        settings.CHRONIKER_MAX_PARALLEL = 3
        for _ in range(7):
            make_action_job("sleep 0.4")
        ticks = [start_tick() for _ in range(2)]
        most = 0

        def all_ran() -> bool:
            nonlocal most
            most = max(most, Run.objects.running().count())
            return Run.objects.filter(status="succeeded").count() == 7

        wait_until(all_ran, timeout=20)
        for tick in ticks:
            tick.wait(20)
        assert most == 3


@pytest.mark.slow
def test_late_start_is_recorded_as_late(run_tick: RunTick, monkeypatch: Any) -> None:
    monkeypatch.setattr("chroniker.engine.claimer._CLAIM_WINDOW_SECONDS", 0.5)
    for n in range(2):
        make_action_job("sleep 1.5", name=f"job {n}", priority=-n)
    run_tick(max_parallel=1)
    first, second = Run.objects.order_by("id")
    assert second.started_at - first.started_at > timedelta(seconds=1)  # type: ignore[operator]


OPTIONS = ClaimOptions("web1", "tick-1-test.lock", 10)


def make_claimer(*, forced: bool = False, single_tick: bool = True) -> Claimer:
    """A claimer of a host whose jobs are planned."""
    Host.objects.get_or_create(name="web1")
    plan_changed_jobs(utc_now())
    return Claimer(TickClock(), Leases(), forced=forced, single_tick=single_tick)


def keys_of(claimer: Claimer, options: ClaimOptions = OPTIONS) -> list[int]:
    return [item.job.pk for item in claimer.claim(options).result.started]


class TestPauses:
    """``nearly_idle``: three quarters of the capacity are free."""

    def test_claims_only_if_something_may_be_due(self) -> None:
        claimer = make_claimer()
        later = time.monotonic() + 60
        assert not claimer.should_claim(later, nearly_idle=True)
        claimer.wanted = True
        assert claimer.should_claim(later, nearly_idle=True)
        claimer.claim(OPTIONS)
        assert not claimer.should_claim(later, nearly_idle=True), "nothing was there"

    def test_claims_again_after_a_claim_that_started_something(self) -> None:
        make_due_job()
        claimer = make_claimer()
        before = time.monotonic()
        claimer.claim(OPTIONS)
        after = time.monotonic()
        assert not claimer.should_claim(before + 0.49, nearly_idle=True)
        assert claimer.should_claim(after + 0.5, nearly_idle=True)

    def test_free_capacity_is_used_at_once_on_an_idle_host(self) -> None:
        claimer = make_claimer()
        before = time.monotonic()
        claimer.claim(OPTIONS)
        after = time.monotonic()
        claimer.note_free_capacity()
        assert claimer.should_claim(before, nearly_idle=True)
        assert not claimer.should_claim(before + 0.04, nearly_idle=False)
        assert claimer.should_claim(after + 0.05, nearly_idle=False)
        claimer.claim(OPTIONS)
        assert not claimer.should_claim(after + 60, nearly_idle=True)

    def test_forced_claim_takes_jobs_that_are_not_due_and_is_the_last(self) -> None:
        job, other = make_job(), make_due_job()
        claimer = make_claimer(forced=True)
        only = ClaimOptions("web1", "tick-1-test.lock", 10, only=frozenset([job.pk]))
        assert keys_of(claimer, only) == [job.pk]
        assert claimer.finished and not claimer.forced
        claimer.note_free_capacity()
        assert not claimer.should_claim(time.monotonic() + 60, nearly_idle=True)
        assert not Run.objects.filter(job=other).exists()


class TestClaimWindow:
    """What became due after the start of a tick."""

    @pytest.mark.parametrize("single_tick", [True, False])
    def test_long_tick_claims_only_what_was_due_at_its_start(
        self, monkeypatch: Any, single_tick: bool
    ) -> None:
        monkeypatch.setattr("chroniker.engine.claimer._CLAIM_WINDOW_SECONDS", -1)
        early, late = make_due_job(), make_due_job()
        claimer = make_claimer(single_tick=single_tick)
        JobState.objects.filter(job=late).update(next_run_at=utc_now())
        assert keys_of(claimer) == ([early.pk] if single_tick else [early.pk, late.pk])
        claimer.start_tick()
        assert keys_of(claimer) == ([late.pk] if single_tick else [])

    def test_tick_claims_what_became_due_soon_after_its_start(self) -> None:
        job = make_due_job()
        claimer = make_claimer()
        JobState.objects.update(next_run_at=utc_now())
        assert keys_of(claimer) == [job.pk]


class TestOutages:
    def test_claim_that_was_not_committed_is_repeated(self) -> None:
        job = make_due_job()
        claimer = make_claimer()
        with failing_statements("INSERT", "chroniker_run"), pytest.raises(OperationalError):
            claimer.claim(OPTIONS)
        assert claimer.unconfirmed
        assert claimer.should_claim(time.monotonic() + 60, nearly_idle=True)
        assert keys_of(claimer) == [job.pk]
        assert not claimer.unconfirmed
        assert Run.objects.count() == 1

    def test_claim_whose_commit_was_not_confirmed_is_found_again(self) -> None:
        job = make_due_job()
        claimer = make_claimer()
        with lost_reply("INSERT", "chroniker_run"), pytest.raises(OperationalError):
            claimer.claim(OPTIONS)
        run, token = Run.objects.get(), JobState.objects.get().lease_token
        batch = claimer.claim(OPTIONS)
        (item,) = batch.result.started
        assert (item.job.pk, item.run.pk, item.token) == (job.pk, run.pk, token)
        assert Run.objects.get() == run
        make_due_job()
        plan_changed_jobs(utc_now())
        (after,) = claimer.claim(OPTIONS).result.started
        assert after.token != token, "a new claim has a new token"

    def test_unconfirmed_claim_is_given_up_a_lease_after_its_lease(self, settings: Any) -> None:
        make_due_job()
        claimer = make_claimer()
        settings.CHRONIKER_LEASE_SECONDS = 0.05
        with lost_reply("INSERT", "chroniker_run"), pytest.raises(OperationalError):
            claimer.claim(OPTIONS)

        def given_up() -> bool:
            claimer.give_up_lost_claim()
            return not claimer.unconfirmed

        wait_until(given_up, timeout=5, interval=0.01)
        assert not claimer.should_claim(time.monotonic() + 60, nearly_idle=True)
        assert keys_of(claimer) == [], "the run belongs to whoever records it as lost"

    def test_unconfirmed_claim_is_repeated_while_its_lease_may_be_valid(
        self, settings: Any
    ) -> None:
        settings.CHRONIKER_LEASE_SECONDS = 60
        job = make_due_job()
        claimer = make_claimer()
        for _ in range(2):
            with failing_statements("INSERT", "chroniker_run"), pytest.raises(OperationalError):
                claimer.claim(OPTIONS)
            claimer.give_up_lost_claim()
            assert claimer.unconfirmed
        assert keys_of(claimer) == [job.pk]


class TestRefusedClaims:
    POISON = 987_654_321

    @pytest.mark.parametrize(
        ("error", "detail"),
        [
            (DataError, "The database rejected the start of the"),
            (ValueError, "The start of the job cannot be recorded: ValueError("),  # of a driver
        ],
    )
    def test_job_that_cannot_be_claimed_is_blocked_and_the_others_start(
        self, caplog: Any, error: type[Exception], detail: str
    ) -> None:
        bad = make_due_job(pk=self.POISON, priority=1)
        good = [make_due_job(), make_due_job()]
        claimer = make_claimer()
        with failing_statements("INSERT", "chroniker_run", error=error, parameter=self.POISON):
            assert keys_of(claimer) == [job.pk for job in good]
        assert not claimer.unconfirmed and claimer.wanted
        assert "claiming the jobs one by one" in caplog.text
        state = JobState.objects.get(job=bad)
        assert state.blocked_reason == "command"
        assert state.blocked_detail.startswith(detail)
        assert (state.lease_token, state.next_run_at) == (None, None)
        tokens = JobState.objects.filter(job__in=good).values_list("lease_token", flat=True)
        assert len(set(tokens)) == 2, "each has a token of its own"

    @pytest.mark.parametrize("error", [OperationalError, InterfaceError, ValueError])
    def test_others_start_although_the_job_cannot_be_blocked(
        self, caplog: Any, error: type[Exception]
    ) -> None:
        bad, good = make_due_job(pk=self.POISON, priority=1), make_due_job()
        claimer = make_claimer()
        with (
            failing_statements("INSERT", "chroniker_run", error=DataError, parameter=self.POISON),
            failing_statements("UPDATE", "jobstate", error=error, parameter="command"),
        ):
            assert keys_of(claimer) == [good.pk]
        assert f"State {JobState.objects.get(job=bad).pk} could not be changed" in caplog.text

    def test_outage_among_them_leaves_the_rest_for_later(self) -> None:
        first = make_due_job(priority=3)
        second = make_due_job(pk=self.POISON + 1, priority=2)
        bad = make_due_job(pk=self.POISON, priority=1)
        claimer = make_claimer()
        with (
            failing_statements("INSERT", "chroniker_run", error=DataError, parameter=self.POISON),
            failing_statements("INSERT", "chroniker_run", parameter=self.POISON + 1),
        ):
            assert keys_of(claimer) == [first.pk]
        assert set(JobState.objects.values_list("blocked_reason", flat=True)) == {""}
        assert keys_of(claimer) == [second.pk, bad.pk]

    def test_refused_forced_claim_forces_each_job(self) -> None:
        bad, good = make_job(pk=self.POISON), make_job()
        claimer = make_claimer(forced=True)
        only = ClaimOptions(
            "web1", "tick-1-test.lock", 10, only=frozenset(Job.objects.values_list("pk", flat=True))
        )
        with failing_statements("INSERT", "chroniker_run", error=DataError, parameter=self.POISON):
            assert keys_of(claimer, only) == [good.pk]
        assert not Run.objects.filter(job=bad).exists()


def test_leases_of_started_runs_are_known(settings: Any) -> None:
    settings.CHRONIKER_LEASE_SECONDS = 0.02
    make_due_job()
    leases = Leases()
    Host.objects.create(name="web1")
    plan_changed_jobs(utc_now())
    claimer = Claimer(TickClock(), leases, forced=False, single_tick=True)
    (item,) = claimer.claim(OPTIONS).result.started
    wait_until(lambda: leases.lost_for_long(item.token), timeout=5)
