"""Experiments: which jobs, which hosts, which faults. Each hands back a history to be checked."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.db import connection

from chroniker.conf import conf
from tests.faults import site
from tests.faults.checker import History, JobFacts, check, figures
from tests.faults.conductor import Conductor, Setup
from tests.faults.plan import Plan, Step, draw
from tests.support import wait_until

SECOND = 1_000_000
settings: Any = django_settings


@dataclass(slots=True)
class Lab:
    """Where an experiment takes place."""

    directory: Path
    seed: int
    prepare: Callable[[], None] | None = None
    """A mutant, applied in each tick."""
    jobs: list[JobFacts] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def job(
        self,
        name: str,
        words: str,
        *,
        every: int | None = 1,
        ago: float = 0.0,
        created: datetime | None = None,
        **fields: Any,
    ) -> Any:
        """Define a job that keeps books; ``every``: seconds; ``ago``: seconds since creation."""
        from chroniker.models import Job

        if created is None:
            now = datetime.now(UTC) - timedelta(seconds=ago)
            created = now.replace(microsecond=0)
        everywhere = fields.get("hostname") == "*"
        row = Job.objects.create(
            name=name,
            command=fields.pop("command", "keep_books"),
            args=words,
            schedule=f"@every {every}s" if every else "",
            created_at=created,
            **fields,
        )
        self.jobs.append(
            JobFacts(
                key=row.pk,
                name=name,
                period=every * SECOND if every else None,
                created=None if everywhere else site.micros(created),
                max_retries=row.max_retries,
                keeps_books=row.command == "keep_books",
                pruned=(row.max_runs_kept or 10**9) < 1000,
            )
        )
        return row

    def conduct(self, setup: Setup, plan: Plan) -> History:
        """Play a plan with these jobs."""
        setup.prepare = self.prepare
        setup.settle = setup.settle and self.prepare is None
        conductor = Conductor(setup, self.directory, self.seed)
        history = conductor.perform(plan, self.jobs)
        self.notes["faults"] = sum(conductor.done.values())
        self.notes["kinds"] = conductor.done
        return history


def fleet(lab: Lab, scale: int = 1) -> None:
    """Jobs that behave in every way, about 20 slots a second."""
    for number in range(9 * scale):
        lab.job(f"quick {number}", "quick", max_runs_kept=None)
    for number in range(3 * scale):
        lab.job(f"sleeper {number}", f"sleep {0.3 + 0.5 * number}", max_runs_kept=None)
    for number in range(2):
        lab.job(f"failing {number}", "fail 0.05", every=2 + number, max_retries=2,
                retry_delay_seconds=1, max_runs_kept=None)  # fmt: skip
    lab.job("leaving", "leave", every=2, max_runs_kept=None)
    lab.job("stubborn", "stubborn 2", every=3, kill_grace_seconds=1, max_runs_kept=None)
    lab.job("stubborn for long", "stubborn 20", every=4, timeout_seconds=1, kill_grace_seconds=1,
            max_runs_kept=None)  # fmt: skip
    for number in range(2):
        lab.job(f"daemon {number}", f"daemonise {0.2 + number}", every=2 + number,
                kill_grace_seconds=1, max_runs_kept=None)  # fmt: skip
    lab.job("flood", "flood 2", every=3, max_runs_kept=None)
    lab.job("progress", "progress 1.5", every=2, max_runs_kept=None)
    lab.job("talker", "talk 2.5", every=3, max_runs_kept=None)
    lab.job("writer", "write 0.2", every=2, max_runs_kept=None)
    lab.job("impatient", "sleep 0.2", start_deadline_seconds=1, max_runs_kept=None)
    lab.job("pruned", "quick", max_runs_kept=10)
    lab.job("urgent", "quick", priority=10, max_runs_kept=None)
    lab.job("everywhere", "quick --per-host", every=2, hostname="*", max_runs_kept=None)
    lab.job("of one host", "sleep 0.5", every=2, hostname="h2", max_runs_kept=None)


def chain(lab: Lab) -> None:
    """Two that wait for a third: one with a schedule, one without."""
    from chroniker.models import JobDependency

    first = lab.job("first", "sleep 0.3", every=2, max_runs_kept=None)
    second = lab.job("second", "quick", every=None, max_runs_kept=None)
    third = lab.job("third", "quick", every=2, max_runs_kept=None)
    JobDependency.objects.create(downstream=second, upstream=first)
    JobDependency.objects.create(downstream=third, upstream=first, wait_for_success=False)


def random_faults(lab: Lab, seconds: float = 60.0, every: float = 0.9, hosts: int = 3) -> History:
    """Everything at once, drawn from the seed."""
    fleet(lab)
    chain(lab)
    names = [f"h{number}" for number in range(1, hosts + 1)]
    plan = draw(
        lab.seed,
        seconds,
        names,
        conf.LEASE_SECONDS,
        one_machine=connection.vendor == "sqlite",
        every=every,
    )
    return lab.conduct(Setup(hosts=hosts, skews=(0.0, 90.0, -3600.0)), plan)


def calm(lab: Lab, seconds: float = 4.0) -> History:
    """Nothing goes wrong."""
    fleet(lab)
    chain(lab)
    return lab.conduct(Setup(hosts=3, settle=False), Plan(lab.seed, seconds))


def _every(
    kind: str, first: float, last: float, apart: float, hosts: int, **facts: Any
) -> list[Step]:
    """The same fault again and again, at one host after the other."""
    steps: list[Step] = []
    at = first
    while at < last:
        steps.append(Step(at, kind, f"h{len(steps) % hosts + 1}", **facts))
        at += apart
    return steps


def together(lab: Lab) -> History:
    """Many ticks on three hosts at the very moment at which a dozen jobs are due."""
    for number in range(12):
        lab.job(f"sleeper {number}", "sleep 0.4")
    steps = _every("burst", 1.0, 4.0, 0.5, 1)
    setup = Setup(hosts=3, tick_seconds=0.3, servers="none", settle=False)
    return lab.conduct(setup, Plan(lab.seed, 4.5, steps))


def frozen_ticks(lab: Lab) -> History:
    """Schedulers stop for longer than their leases, with long jobs, and wake up again."""
    for number in range(6):
        lab.job(f"long {number}", "sleep 6")
        lab.job(f"talker {number}", "talk 3.5")
    steps = [Step(1.6, "freeze_tick", "h1", 4.2), Step(4.0, "freeze_tick", "h2", 4.2)]
    return lab.conduct(Setup(hosts=3, servers="all"), Plan(lab.seed, 9.5, steps))


def frozen_hosts(lab: Lab) -> History:
    """Whole hosts stop for longer than their leases, with long jobs, and wake up again."""
    for number in range(6):
        lab.job(f"long {number}", "sleep 6")
        lab.job(f"talker {number}", "talk 3.5")
        lab.job(f"stubborn {number}", "stubborn 5", every=2, kill_grace_seconds=1)
    steps = [Step(1.6, "freeze_host", "h1", 4.2), Step(4.0, "freeze_host", "h2", 4.2)]
    return lab.conduct(Setup(hosts=3), Plan(lab.seed, 9.5, steps))


def lost_commits(lab: Lab) -> History:
    """COMMITs are done and their replies are lost, all the time."""
    for number in range(10):
        lab.job(f"quick {number}", "quick")
    steps = _every("lose_commits", 0.8, 5.0, 0.3, 2, number=1)
    return lab.conduct(Setup(hosts=2, servers="all"), Plan(lab.seed, 6.0, steps))


def pruned(lab: Lab) -> History:
    """Old runs are deleted while new ones run."""
    for number in range(6):
        lab.job(f"pruned {number}", "quick", max_runs_kept=3)
    return lab.conduct(Setup(hosts=2, servers="all", settle=False), Plan(lab.seed, 8.0))


def skewed(lab: Lab) -> History:
    """The hosts' clocks are 90 seconds and an hour off, and are set while they tick."""
    for number in range(8):
        lab.job(f"sleeper {number}", "sleep 2", every=1)
    lab.job("not yet", "quick", every=3600, ago=3000)
    steps = _every("step_clock", 1.5, 5.0, 0.7, 3)
    setup = Setup(hosts=3, skews=(0.0, 90.0, -3600.0), settle=False)
    return lab.conduct(setup, Plan(lab.seed, 6.0, steps))


def killed_wardens(lab: Lab) -> History:
    """The guards of runs are killed, also where a daemon was left behind."""
    for number in range(8):
        lab.job(f"sleeper {number}", "sleep 0.7")
    for number in range(3):
        lab.job(f"daemon {number}", "daemonise 1", every=2)
    steps = _every("kill_warden", 1.2, 4.5, 0.25, 2)
    return lab.conduct(Setup(hosts=2, settle=False), Plan(lab.seed, 7.8, steps))


def killed_zygotes(lab: Lab) -> History:
    """What forks the runs is killed again and again."""
    for number in range(12):
        lab.job(f"quick {number}", "sleep 0.1")
    for number in range(3):
        lab.job(f"daemon {number}", "daemonise 1.5", every=2)
    steps = _every("kill_zygote", 1.0, 6.0, 0.11, 2)
    return lab.conduct(Setup(hosts=2), Plan(lab.seed, 7.0, steps))


def killed_ticks(lab: Lab) -> History:
    """Schedulers are killed while their jobs sleep, resist or have left daemons."""
    for number in range(4):
        lab.job(f"long {number}", "sleep 9")
        lab.job(f"stubborn {number}", "stubborn 9")
    for number in range(2):
        lab.job(f"daemon {number}", "daemonise 4")
    steps = _every("kill_tick", 1.5, 4.5, 0.5, 2)
    return lab.conduct(Setup(hosts=2, settle=False), Plan(lab.seed, 8.0, steps))


def long_writer(lab: Lab) -> History:
    """Another program holds SQLite's only write lock for longer than a lease."""
    for number in range(8):
        lab.job(f"sleeper {number}", "sleep 7")
    lab.job("quick", "quick")
    steps = [Step(1.5, "hold_rows", "h1", 4.5)]
    return lab.conduct(Setup(hosts=3, servers="none"), Plan(lab.seed, 8.5, steps))


def full_disk(lab: Lab) -> History:
    """The disk under the SQLite file is full for longer than two leases."""
    for number in range(8):
        lab.job(f"quick {number}", "quick")
        lab.job(f"sleeper {number}", "sleep 1.5")
    steps = [Step(1.5, "full_disk", "h1", 7.0)]
    return lab.conduct(Setup(hosts=2, servers="all"), Plan(lab.seed, 10.0, steps))


def downtime(lab: Lab) -> History:
    """Jobs that are new, and jobs whose hosts were away for 1, 101 and 10,000 slots."""
    for slots in (0, 1, 101, 10_000):
        for number in range(3):
            # The slots go by one a minute: none comes while this is looked at.
            created = datetime.now(UTC) - timedelta(minutes=slots, seconds=30)
            lab.job(f"away for {slots}, {number}", "quick", every=60, created=created)
        created = datetime.now(UTC) - timedelta(minutes=slots, seconds=30)
        lab.job(f"too late by {slots}", "quick", every=60, created=created,
                start_deadline_seconds=5)  # fmt: skip
    history = lab.conduct(Setup(hosts=2, settle=False), Plan(lab.seed, 2.5))
    begun = Counter(entry["job"] for entry in history.journal if entry["what"] == "begin")
    lab.notes["begun_by_job"] = dict(begun)
    return history


def crashes(lab: Lab) -> History:
    """The database server crashes and comes back, again and again."""
    for number in range(8):
        lab.job(f"quick {number}", "quick")
        lab.job(f"sleeper {number}", "sleep 1.5")
    steps = _every("crash", 1.3, 7.0, 1.9, 1, seconds=0.3)
    return lab.conduct(Setup(hosts=2), Plan(lab.seed, 9.0, steps))


def doubtful_claims(lab: Lab) -> History:
    """A claim's COMMIT is done, its reply lost, and the database away for most of a lease."""
    for number in range(6):
        lab.job(f"long {number}", "sleep 3", every=2)
    steps = []
    for at in (0.95, 4.95, 8.95):
        steps += [Step(at, "lose_commits", "h1", number=1), Step(at + 0.45, "refuse", "h1", 2.1)]
    setup = Setup(hosts=2, tick_seconds=0.5, servers="all")
    return lab.conduct(setup, Plan(lab.seed, 12.0, steps))


def at_one_instant(lab: Lab, ticks: int = 100) -> History:
    """So many ticks are released at one instant, with 40 new jobs due."""
    conductor = Conductor(Setup(hosts=4, tick_seconds=3600, servers="none", settle=False,
                                prepare=lab.prepare), lab.directory, lab.seed)  # fmt: skip

    def fire(step: Step) -> None:
        for number in range(40):
            lab.job(f"once {number}", "sleep 0.2", every=3600, ago=3601 + number % 2)
        began = time.monotonic()
        pids = conductor.release_ticks(ticks)
        lab.notes["exit_codes"] = dict(Counter(_wait_for(conductor, pids)))
        lab.notes["seconds_of_ticks"] = round(time.monotonic() - began, 2)

    conductor._burst = fire  # type: ignore[method-assign]
    history = conductor.perform(Plan(lab.seed, 2.5, [Step(1.0, "burst", "h1")]), lab.jobs)
    lab.notes["faults"] = 1
    return history


def _wait_for(conductor: Conductor, pids: list[int]) -> list[int]:
    codes = []
    for pid in pids:
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        conductor.helpers.remove(pid)
    return codes


def _unhurried() -> None:
    """Leases as a site has them: this is about load, not about faults."""
    settings.CHRONIKER_LEASE_SECONDS, settings.CHRONIKER_LEASE_RENEW_SECONDS = 60, 10


def ten_hosts(
    lab: Lab, jobs: int = 1000, ticks: int = 20, hosts: int = 10, at_once: bool = False
) -> History:
    """Ten hosts tick twenty times each; a thousand jobs become due on the way, or at once."""
    apart = 3.0
    _unhurried()
    now = datetime.now(UTC).replace(microsecond=0)
    begin = now + timedelta(seconds=4)
    for number in range(jobs):
        due = begin + timedelta(seconds=0 if at_once else apart * (number % ticks))
        lab.job(f"once {number}", "quick", every=86400, created=due - timedelta(days=1))
    setup = Setup(hosts=hosts, tick_seconds=apart, servers="none", settle=False)
    history = lab.conduct(setup, Plan(lab.seed, 4 + apart * ticks + 4))
    runs = {change.after.run: change.after for change in history.changes}
    begun = {entry["run"]: entry["t"] for entry in history.journal if entry["what"] == "begin"}
    assert history.boot is not None
    lags = sorted(
        at - (runs[run].slot - history.boot) / SECOND for run, at in begun.items() if run in runs
    )
    lab.notes["by_host"] = dict(Counter(run.ran_on for run in runs.values()))
    lab.notes["lag_p50"] = round(lags[len(lags) // 2], 2)
    lab.notes["lag_p99"] = round(lags[int(len(lags) * 0.99)], 2)
    lab.notes["distinct"] = len({runs[run].job for run in begun})
    return history


def week_away(lab: Lab, jobs: int = 1000) -> History:
    """A thousand minutely jobs are due by one slot, and then by those of a week: the first tick."""
    from chroniker.engine.planning import plan_changed_jobs
    from chroniker.models import Host as HostRow
    from chroniker.models import JobState, Run

    _unhurried()
    conductor = Conductor(Setup(hosts=1, tick_seconds=3600, servers="none", settle=False,
                                prepare=lab.prepare), lab.directory, lab.seed)  # fmt: skip
    ticks: list[float] = []

    def done() -> Any:
        return Run.objects.filter(status="succeeded")

    def fire(step: Step) -> None:
        for number in range(jobs):
            lab.job(f"minutely {number}", "quick", every=60, ago=90, max_runs_kept=None)
        # Their slots are moved by hand, and are not to be counted.
        lab.jobs[:] = [replace(job, period=None) for job in lab.jobs]
        plan_changed_jobs(site.database_now())
        for away in (timedelta(), timedelta(days=7)):
            now = site.database_now()
            moment = now - timedelta(seconds=5) - away
            JobState.objects.update(next_slot_at=moment, next_run_at=moment)
            HostRow.objects.filter(name="h1").update(tick_seconds=None)
            before = done().count()
            (pid,) = conductor.release_ticks(1, max_parallel=20)
            tick = HostRow.objects.filter(name="h1", tick_seconds__isnull=False)
            wait_until(tick.exists, 60)
            ticks.append(tick.get().tick_seconds or 0.0)
            wait_until(lambda before=before: done().count() > before + 200, 60)  # type: ignore[misc]
            os.kill(pid, signal.SIGTERM)
            _wait_for(conductor, [pid])

    conductor._burst = fire  # type: ignore[method-assign]
    history = conductor.perform(Plan(lab.seed, 1.5, [Step(1.0, "burst", "h1")]), lab.jobs)
    runs = {change.after.run: change.after for change in history.changes}
    begun = Counter(
        (entry["job"], runs[entry["run"]].slot)
        for entry in history.journal
        if entry["what"] == "begin"
    )
    lab.notes["usual_tick"], lab.notes["tick_after_a_week"] = (round(each, 3) for each in ticks)
    lab.notes["most_starts"] = max(begun.values())
    lab.notes["started"] = len(begun)
    return history


SCENARIOS: dict[str, Callable[..., History]] = {
    "random": random_faults,
    **{
        scenario.__name__: scenario
        for scenario in (
            at_one_instant, calm, crashes, doubtful_claims, downtime, frozen_hosts, frozen_ticks,
            full_disk, killed_ticks, killed_wardens, killed_zygotes, long_writer, lost_commits,
            pruned, skewed, ten_hosts, together, week_away,
        )
    },
}  # fmt: skip


def run_scenario(lab: Lab, name: str, **options: Any) -> dict[str, Any]:
    """Perform and judge; what a test or a person gets to see."""
    began = time.monotonic()
    usual = settings.CHRONIKER_LEASE_SECONDS, settings.CHRONIKER_LEASE_RENEW_SECONDS
    try:
        history = SCENARIOS[name](lab, **options)
    finally:
        settings.CHRONIKER_LEASE_SECONDS, settings.CHRONIKER_LEASE_RENEW_SECONDS = usual
    violations = check(history)
    return {
        "scenario": name,
        "backend": connection.vendor,
        "seed": lab.seed,
        **figures(history),
        **lab.notes,
        "seconds": round(time.monotonic() - began, 1),
        "violations": [str(violation) for violation in violations],
        "broken": sorted({violation.kind for violation in violations}),
    }


__all__ = ["SCENARIOS", "Lab", "Step", "run_scenario"]
