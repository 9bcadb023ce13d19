"""Experiments: their jobs, hosts and faults. Each returns a history to check."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings as django_settings
from django.test import override_settings

from chroniker.conf import conf
from tests.faults import site
from tests.faults.checker import check, figures
from tests.faults.current import DEPLOYMENT
from tests.faults.deploys import pods, rolling_deploy
from tests.faults.experiment import Experiment, chain, fleet
from tests.faults.history import SECOND, History
from tests.faults.injector import FaultInjector, FleetConfig
from tests.faults.plan import Plan, Step, generate_plan
from tests.faults.site import connection
from tests.faults.stalls import measure_load
from tests.faults.worker_scenarios import workers
from tests.support.processes import wait_until

settings: Any = django_settings


def random_faults(
    experiment: Experiment,
    seconds: float = 60.0,
    every: float = 0.9,
    hosts: int = 3,
    scale: int = 1,
    lease: float = 0.0,
) -> History:
    """All kinds of faults, generated from the seed.

    ``scale``: how many times as many jobs; ``lease``: seconds, by default so long that the machine
    in its present state can renew one.
    """
    lease = lease or affordable_lease()
    settings.CHRONIKER_LEASE_SECONDS = experiment.notes["lease"] = lease
    fleet(experiment, scale)
    chain(experiment)
    names = [f"h{number}" for number in range(1, hosts + 1)]
    plan = generate_plan(
        experiment.seed,
        seconds,
        names,
        conf.LEASE_SECONDS,
        one_machine=connection.vendor == "sqlite",
        every=every,
        deployment=DEPLOYMENT,
    )
    return experiment.run_plan(FleetConfig(hosts=hosts, skews=(0.0, 90.0, -3600.0)), plan)


_LEASE_SECONDS, _LONGEST_LEASE_SECONDS = 3.0, 6.0


def affordable_lease() -> float:
    """Three seconds, or more if the machine is so busy that they would run out by themselves."""
    lease = _LEASE_SECONDS * measure_load() / 2
    return round(min(_LONGEST_LEASE_SECONDS, max(_LEASE_SECONDS, lease)), 1)


def calm(experiment: Experiment, seconds: float = 4.0) -> History:
    """No faults."""
    fleet(experiment)
    chain(experiment)
    fleet_config = FleetConfig(hosts=3, settle=False, all_claimed=True)
    return experiment.run_plan(fleet_config, Plan(experiment.seed, seconds))


def _every(
    kind: str, first: float, last: float, apart: float, hosts: int, **facts: Any
) -> list[Step]:
    """The same fault repeatedly, on one host after the other."""
    steps: list[Step] = []
    at = first
    while at < last:
        steps.append(Step(at, kind, f"h{len(steps) % hosts + 1}", **facts))
        at += apart
    return steps


def together(experiment: Experiment) -> History:
    """Many ticks on three hosts at the moment when a dozen jobs are due."""
    for number in range(12):
        experiment.job(f"sleeper {number}", "sleep 0.4")
    steps = _every("burst", 1.0, 4.0, 0.5, 1)
    fleet_config = FleetConfig(hosts=3, tick_seconds=0.3, servers="none", settle=False)
    return experiment.run_plan(fleet_config, Plan(experiment.seed, 4.5, steps))


def frozen_ticks(experiment: Experiment) -> History:
    """Schedulers are frozen for longer than their leases, with long jobs, and resume."""
    for number in range(6):
        experiment.job(f"long {number}", "sleep 6")
        experiment.job(f"talker {number}", "print_lines 3.5")
    steps = [Step(1.6, "freeze_tick", "h1", 4.2), Step(4.0, "freeze_tick", "h2", 4.2)]
    return experiment.run_plan(
        FleetConfig(hosts=3, servers="all"), Plan(experiment.seed, 9.5, steps)
    )


def frozen_hosts(experiment: Experiment) -> History:
    """Whole hosts are frozen for longer than their leases, with long jobs, and resume."""
    for number in range(6):
        experiment.job(f"long {number}", "sleep 6")
        experiment.job(f"talker {number}", "print_lines 3.5")
        experiment.job(f"stubborn {number}", "ignore_sigterm 5", every=2, kill_grace_seconds=1)
    steps = [Step(1.6, "freeze_host", "h1", 4.2), Step(4.0, "freeze_host", "h2", 4.2)]
    return experiment.run_plan(FleetConfig(hosts=3), Plan(experiment.seed, 9.5, steps))


def lost_commits(experiment: Experiment) -> History:
    """COMMITs succeed and their replies are lost, continuously."""
    for number in range(10):
        experiment.job(f"quick {number}", "quick")
    steps = _every("lose_commits", 0.8, 5.0, 0.3, 2, number=1)
    return experiment.run_plan(
        FleetConfig(hosts=2, servers="all"), Plan(experiment.seed, 6.0, steps)
    )


def pruned(experiment: Experiment) -> History:
    """Old runs are deleted while new runs start."""
    for number in range(6):
        experiment.job(f"pruned {number}", "quick", max_runs_kept=3)
    return experiment.run_plan(
        FleetConfig(hosts=2, servers="all", settle=False), Plan(experiment.seed, 8.0)
    )


def skewed(experiment: Experiment) -> History:
    """The hosts' clocks are 90 seconds and an hour off, and are set while they tick."""
    for number in range(8):
        experiment.job(f"sleeper {number}", "sleep 2", every=1)
    experiment.job("not yet", "quick", every=3600, ago=3000)
    steps = _every("step_clock", 1.5, 5.0, 0.7, 3)
    fleet_config = FleetConfig(hosts=3, skews=(0.0, 90.0, -3600.0), settle=False)
    return experiment.run_plan(fleet_config, Plan(experiment.seed, 6.0, steps))


def killed_wardens(experiment: Experiment) -> History:
    """Wardens are killed, even if a daemon was left behind."""
    for number in range(8):
        experiment.job(f"sleeper {number}", "sleep 0.7")
    for number in range(3):
        experiment.job(f"daemon {number}", "daemonize 1", every=2)
    steps = _every("kill_warden", 1.2, 4.5, 0.25, 2)
    return experiment.run_plan(
        FleetConfig(hosts=2, settle=False), Plan(experiment.seed, 7.8, steps)
    )


def killed_forkservers(experiment: Experiment) -> History:
    """Fork servers are killed repeatedly."""
    for number in range(12):
        experiment.job(f"quick {number}", "sleep 0.1")
    for number in range(3):
        experiment.job(f"daemon {number}", "daemonize 1.5", every=2)
    steps = _every("kill_forkserver", 1.0, 6.0, 0.11, 2)
    return experiment.run_plan(FleetConfig(hosts=2), Plan(experiment.seed, 7.0, steps))


def killed_ticks(experiment: Experiment) -> History:
    """Schedulers are killed while jobs sleep, ignore SIGTERM or have left daemons."""
    for number in range(4):
        experiment.job(f"long {number}", "sleep 9")
        experiment.job(f"stubborn {number}", "ignore_sigterm 9")
    for number in range(2):
        experiment.job(f"daemon {number}", "daemonize 4")
    steps = _every("kill_tick", 1.5, 4.5, 0.5, 2)
    return experiment.run_plan(
        FleetConfig(hosts=2, settle=False), Plan(experiment.seed, 8.0, steps)
    )


def long_writer(experiment: Experiment) -> History:
    """Another program holds the write lock of SQLite for longer than a lease."""
    for number in range(8):
        experiment.job(f"sleeper {number}", "sleep 7")
    experiment.job("quick", "quick")
    steps = [Step(1.5, "hold_rows", "h1", 4.5)]
    return experiment.run_plan(
        FleetConfig(hosts=3, servers="none"), Plan(experiment.seed, 8.5, steps)
    )


def full_disk(experiment: Experiment) -> History:
    """The disk under the SQLite file is full for longer than two leases."""
    for number in range(8):
        experiment.job(f"quick {number}", "quick")
        experiment.job(f"sleeper {number}", "sleep 1.5")
    steps = [Step(1.5, "full_disk", "h1", 7.0)]
    return experiment.run_plan(
        FleetConfig(hosts=2, servers="all"), Plan(experiment.seed, 10.0, steps)
    )


def downtime(experiment: Experiment) -> History:
    """New jobs, and jobs whose hosts were down for 1, 101 and 10,000 slots."""
    for slots in (0, 1, 101, 10_000):
        for number in range(3):
            # One slot per minute: none is due during the check.
            created = datetime.now(UTC) - timedelta(minutes=slots, seconds=30)
            experiment.job(f"away for {slots}, {number}", "quick", every=60, created=created)
        created = datetime.now(UTC) - timedelta(minutes=slots, seconds=30)
        experiment.job(f"too late by {slots}", "quick", every=60, created=created,
                start_deadline_seconds=5)  # fmt: skip
    history = experiment.run_plan(FleetConfig(hosts=2, settle=False), Plan(experiment.seed, 2.5))
    begun = Counter(entry["job"] for entry in history.journal if entry["what"] == "begin")
    experiment.notes["begun_by_job"] = dict(begun)
    return history


def crashes(experiment: Experiment) -> History:
    """The database server crashes and restarts repeatedly."""
    for number in range(8):
        experiment.job(f"quick {number}", "quick")
        experiment.job(f"sleeper {number}", "sleep 1.5")
    steps = _every("crash", 1.3, 7.0, 1.9, 1, seconds=0.3)
    return experiment.run_plan(FleetConfig(hosts=2), Plan(experiment.seed, 9.0, steps))


def lost_claim_commits(experiment: Experiment) -> History:
    """A claim's COMMIT succeeds without a reply; the database is down for most of a lease."""
    for number in range(6):
        experiment.job(f"long {number}", "sleep 3", every=2)
    steps = []
    for at in (0.95, 4.95, 8.95):
        steps += [Step(at, "lose_commits", "h1", number=1), Step(at + 0.45, "refuse", "h1", 2.1)]
    fleet_config = FleetConfig(hosts=2, tick_seconds=0.5, servers="all")
    return experiment.run_plan(fleet_config, Plan(experiment.seed, 12.0, steps))


def simultaneous_ticks(experiment: Experiment, ticks: int = 100) -> History:
    """This many ticks start at one instant, with 40 new jobs due.

    With longer leases than elsewhere, because so many processes keep a small machine busy.
    """
    settings.CHRONIKER_LEASE_SECONDS = 20
    config = FleetConfig(
        hosts=4, tick_seconds=3600, servers="none", settle=False, prepare=experiment.prepare
    )
    injector = FaultInjector(config, experiment.directory, experiment.seed)

    def fire(step: Step) -> None:
        for number in range(40):
            experiment.job(f"once {number}", "sleep 0.2", every=3600, ago=3601 + number % 2)
        began = time.monotonic()
        pids = injector.actions.release_ticks(ticks)
        experiment.notes["exit_codes"] = dict(Counter(_wait_for(injector, pids)))
        experiment.notes["seconds_of_ticks"] = round(time.monotonic() - began, 2)

    injector.actions.burst = fire  # type: ignore[method-assign]
    history = injector.perform(
        Plan(experiment.seed, 2.5, [Step(1.0, "burst", "h1")]), experiment.jobs
    )
    experiment.notes["faults"] = 1
    return history


def _wait_for(injector: FaultInjector, pids: list[int]) -> list[int]:
    codes = []
    for pid in pids:
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        injector.helpers.remove(pid)
    return codes


def _with_long_timeouts() -> None:
    """Use the lease settings of a site: this tests load, not faults."""
    settings.CHRONIKER_LEASE_SECONDS, settings.CHRONIKER_LEASE_RENEW_SECONDS = 60, 10


def ten_hosts(
    experiment: Experiment,
    jobs: int = 1000,
    ticks: int = 20,
    hosts: int = 10,
    at_once: bool = False,
) -> History:
    """Ten hosts tick twenty times each; a thousand jobs become due gradually or at once."""
    apart = 3.0
    _with_long_timeouts()
    now = datetime.now(UTC).replace(microsecond=0)
    begin = now + timedelta(seconds=4)
    for number in range(jobs):
        due = begin + timedelta(seconds=0 if at_once else apart * (number % ticks))
        experiment.job(f"once {number}", "quick", every=86400, created=due - timedelta(days=1))
    fleet_config = FleetConfig(hosts=hosts, tick_seconds=apart, servers="none", settle=False)
    history = experiment.run_plan(fleet_config, Plan(experiment.seed, 4 + apart * ticks + 4))
    runs = {change.after.run: change.after for change in history.changes}
    begun = {entry["run"]: entry["t"] for entry in history.journal if entry["what"] == "begin"}
    assert history.boot is not None
    lags = sorted(
        at - (runs[run].slot - history.boot) / SECOND for run, at in begun.items() if run in runs
    )
    experiment.notes["by_host"] = dict(Counter(run.ran_on for run in runs.values()))
    experiment.notes["lag_p50"] = round(lags[len(lags) // 2], 2)
    experiment.notes["lag_p99"] = round(lags[int(len(lags) * 0.99)], 2)
    experiment.notes["distinct"] = len({runs[run].job for run in begun})
    return history


def week_of_downtime(experiment: Experiment, jobs: int = 1000) -> History:
    """The first tick of a thousand minutely jobs after one missed slot, and after a week."""
    from chroniker.engine.planning import plan_changed_jobs
    from chroniker.models import Host as HostRow
    from chroniker.models import JobState, Run

    _with_long_timeouts()
    config = FleetConfig(
        hosts=1, tick_seconds=3600, servers="none", settle=False, prepare=experiment.prepare
    )
    injector = FaultInjector(config, experiment.directory, experiment.seed)
    ticks: list[float] = []

    def done() -> Any:
        return Run.objects.filter(status="succeeded")

    def fire(step: Step) -> None:
        for number in range(jobs):
            experiment.job(f"minutely {number}", "quick", every=60, ago=90, max_runs_kept=None)
        # Their slots are moved by hand and not counted.
        experiment.jobs[:] = [replace(job, period=None) for job in experiment.jobs]
        plan_changed_jobs(site.database_now())
        for away in (timedelta(), timedelta(days=7)):
            now = site.database_now()
            moment = now - timedelta(seconds=5) - away
            JobState.objects.update(next_slot_at=moment, next_run_at=moment)
            HostRow.objects.filter(name="h1").update(tick_seconds=None)
            before = done().count()
            (pid,) = injector.actions.release_ticks(1, max_parallel=20)
            tick = HostRow.objects.filter(name="h1", tick_seconds__isnull=False)
            wait_until(tick.exists, 60)
            ticks.append(tick.get().tick_seconds or 0.0)
            wait_until(lambda before=before: done().count() > before + 200, 60)  # type: ignore[misc]
            os.kill(pid, signal.SIGTERM)
            _wait_for(injector, [pid])

    injector.actions.burst = fire  # type: ignore[method-assign]
    history = injector.perform(
        Plan(experiment.seed, 1.5, [Step(1.0, "burst", "h1")]), experiment.jobs
    )
    runs = {change.after.run: change.after for change in history.changes}
    begun = Counter(
        (entry["job"], runs[entry["run"]].slot)
        for entry in history.journal
        if entry["what"] == "begin"
    )
    experiment.notes["usual_tick"], experiment.notes["tick_after_a_week"] = (
        round(each, 3) for each in ticks
    )
    experiment.notes["most_starts"] = max(begun.values())
    experiment.notes["started"] = len(begun)
    return history


SCENARIOS: dict[str, Callable[..., History]] = {
    "random": random_faults,
    **{
        scenario.__name__: scenario
        for scenario in (
            simultaneous_ticks, calm, crashes, lost_claim_commits, downtime, frozen_hosts,
            frozen_ticks, full_disk, killed_ticks, killed_wardens, killed_forkservers,
            long_writer, lost_commits,
            pruned, skewed, ten_hosts, together, week_of_downtime, pods, rolling_deploy, workers,
        )
    },
}  # fmt: skip


def run_scenario(experiment: Experiment, name: str, **options: Any) -> dict[str, Any]:
    """Perform and check an experiment; the report."""
    began = time.monotonic()
    with override_settings():  # a scenario may change settings
        history = SCENARIOS[name](experiment, **options)
    violations = check(history)
    return {
        "scenario": name,
        "backend": connection.vendor,
        "deployment": str(DEPLOYMENT),
        "seed": experiment.seed,
        **figures(history),
        **experiment.notes,
        "seconds": round(time.monotonic() - began, 1),
        "violations": [str(violation) for violation in violations],
        "broken": sorted({violation.kind for violation in violations}),
    }


__all__ = ["SCENARIOS", "Experiment", "Step", "run_scenario"]
