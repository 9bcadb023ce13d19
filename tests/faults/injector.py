"""Performs a plan: starts hosts, injects faults, heals, and collects the history."""

from __future__ import annotations

import contextlib
import heapq
import json
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from django.db import DatabaseError, InterfaceError, connections
from django.test import override_settings

from chroniker.conf import conf
from tests.faults import site
from tests.faults.actions import END_SECONDS, FaultActions
from tests.faults.checker import stalled_seconds
from tests.faults.history import Fault, History, JobFacts
from tests.faults.hosts import Host, HostConfig, alive, describe_processes, tree
from tests.faults.journal import DIRECTORY_VARIABLE, Journal, boottime
from tests.faults.plan import Plan, Step
from tests.faults.proxy import Proxy
from tests.faults.site import connection
from tests.faults.stalls import STALL_SECONDS, Bystander
from tests.support.processes import wait_until

logger = logging.getLogger(__name__)

SLACK_SECONDS = 1.5
"""What a busy machine may add to a lease of 3 s and a tick before a run counts as stuck."""
ALL_HOSTS_FAULTS = frozenset(
    {"power_off_all", "hold_rows", "burst", "full_disk", "crash", "terminate", "kill_pooler"}
)
"""Faults that may affect any host."""
_MAX_STALL_SECONDS = 20.0
NO_EXCUSE = frozenset({"restart", "replace_host", "crash_replica"})
"""Steps that may cost no run."""


@dataclass(slots=True)
class FleetConfig:
    """The simulated hosts."""

    hosts: int = 3
    tick_seconds: float = 0.4
    prepare: Callable[[], None] | None = None
    """Applied in each tick: a mutant."""
    servers: str = "mixed"
    """``all``: every host ticks by one process for ever; ``none``: each tick is a process."""
    skews: tuple[float, ...] = ()
    settle: bool = True
    """Whether to wait after healing until stuck runs can be recognised."""
    all_claimed: bool = False
    """Whether no slot may be left at the end that nobody has claimed; always after ``settle``."""
    look_at_hosts: bool = False
    """Whether to read the hosts from the metrics page and the lists at the end."""
    drain: bool = False
    """Whether to disable all jobs before the end, and to wait for their runs."""


def _clock_offset() -> tuple[int, int]:
    """The uncertainty, and the database clock at CLOCK_BOOTTIME 0; both in microseconds.

    On a busy machine the result may be a second old when it is read.
    """
    before = boottime()
    now = site.micros(site.database_now())
    assert now is not None
    after = boottime()
    return int((after - before) * 1e6), now - int((before + after) / 2 * 1e6)


@dataclass(order=True)
class _ScheduledAction:
    at: float
    number: int
    action: Callable[[], None] = field(compare=False)


class FaultInjector:
    """One experiment, from the start of the first host to the end of the last process."""

    def __init__(self, fleet_config: FleetConfig, directory: Path, seed: int) -> None:
        self.fleet_config = fleet_config
        self.directory = directory
        self.chance = random.Random(seed)
        self.actions = FaultActions(self)
        self.lease: float = conf.LEASE_SECONDS
        self.slack = SLACK_SECONDS * max(1.0, self.lease / 3)
        self.one_machine = connection.vendor == "sqlite"
        self.journal = Journal(directory)
        self.proxy: Proxy | None = None
        self.ports: dict[str, int] = {}
        self.hosts: dict[str, Host] = {}
        self.ending: list[Host] = []
        """Hosts that are to end in order, and that nobody replaces."""
        self.restarts: list[float] = []
        """How long each restart of a host took, seconds."""
        self.skews: dict[str, float] = {}
        self.helpers: list[int] = []
        self.faults: list[Fault] = []
        self.done: dict[str, int] = {}
        self.leftovers: list[str] = []
        self.stuck: list[str] = []
        self._due: list[_ScheduledAction] = []
        self._numbers = 0
        self._offset = 0
        self._scraper: site.MetricsScraper | None = None
        self._bystander: Bystander | None = None
        self._stalls: list[tuple[float, float]] = []
        self._overlapping: dict[int, int] = {}
        self._journal_read = 0
        os.environ[DIRECTORY_VARIABLE] = str(directory)

    # -- from beginning to end -------------------------------------------------------------

    def perform(self, plan: Plan, jobs: list[JobFacts]) -> History:
        """Perform the plan, heal, settle, end everything, and collect."""
        on_page: list[str] = []
        in_lists: list[str] = []
        try:
            self.start()
            self.inject(plan)
            self.undo_faults()
            if self.fleet_config.settle:
                self.settle()
            if self.fleet_config.settle or self.fleet_config.all_claimed:
                self._check_unclaimed()
            if self.fleet_config.drain:
                self.drain()
            if self.fleet_config.look_at_hosts:
                on_page, in_lists = site.hosts_on_page(), site.hosts_in_lists()
            self.finish()
        finally:
            self.clean_up()
        history = site.read_history(jobs, self.directory)
        history.leftovers = self.leftovers
        history.stuck = self.stuck
        history.faults = self.faults
        history.boot = self._offset
        history.deploys = len(self.restarts)
        history.stalls = self._stalls
        history.left_settings = self._left_settings()
        history.hosts_on_page, history.hosts_in_lists = on_page, in_lists
        return history

    def start(self) -> None:
        # One clock for the checker: that of the database, relative to CLOCK_BOOTTIME.
        self._offset = min(_clock_offset() for _ in range(20))[1]
        os.environ.setdefault(site.LOCK_LIMIT_VARIABLE, site.lock_limit())
        site.limit_own_lock_waits()
        connections.close_all()
        names = [f"h{number}" for number in range(1, self.fleet_config.hosts + 1)]
        if not self.one_machine:
            self.proxy = Proxy(connection.vendor, site.address())
        self._scraper = site.MetricsScraper(self.directory)
        self._bystander = Bystander(self.journal)
        for number, name in enumerate(names):
            self.skews[name] = (
                self.fleet_config.skews[number] if number < len(self.fleet_config.skews) else 0.0
            )
            self.start_host(name)

    def start_host(self, name: str) -> None:
        number = int(name[1:])
        if self.proxy and name not in self.ports:
            self.ports[name] = self.proxy.send_command("door", name)
        server = {"all": True, "none": False}.get(self.fleet_config.servers, number % 2 == 1)
        config = HostConfig(
            name=name,
            directory=self.directory,
            runtime_dir=self._runtime_dir(name),
            tick_seconds=self.fleet_config.tick_seconds,
            server=server,
            port=self.ports.get(name),
            clock_offset=self.skews.get(name, 0.0),
            prepare=self.fleet_config.prepare,
        )
        connections.close_all()
        self.hosts[name] = Host(config, self.close_inherited)

    def _runtime_dir(self, host: str) -> Path:
        return self.directory / ("run" if self.one_machine else f"run-{host}")

    def close_inherited(self) -> None:
        """In a fork: close the resources of the injector."""
        if self.proxy:
            self.proxy.close_inherited()

    def inject(self, plan: Plan) -> None:
        began = time.monotonic()
        for step in plan.steps:
            self.schedule(began + step.at, lambda step=step: self.do(step))  # type: ignore[misc]
        while (now := time.monotonic()) < began + plan.seconds:
            self._run_due_actions(now)
            for name, host in list(self.hosts.items()):
                if host.ended():  # it must not end unless it is stopped
                    self.leftovers.append(f"init of {name} ended")
                    self.start_host(name)
            self._reap_helpers()
            self._read_journal()
            wait = (self._due[0].at if self._due else now + 0.05) - time.monotonic()
            wait = min(0.05, max(0.001, wait))
            slept = boottime()
            time.sleep(wait)
            if (late := boottime() - slept - wait) > STALL_SECONDS:
                self._note_stall("", slept, late)

    def _read_journal(self) -> None:
        """Note stalls; and an instance that recorded an overlap and was killed has no end of it."""
        with self.journal.path.open("rb") as file:
            file.seek(self._journal_read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._journal_read += len(whole)
        for line in whole.splitlines():
            if b'"overlap"' in line:
                entry = json.loads(line)
                self._overlapping[entry["run"]] = entry["pid"]
            elif b'"stall"' in line:
                entry = json.loads(line)
                self._note_stall(entry["host"], entry["begin"], entry["seconds"])
        for run, pid in list(self._overlapping.items()):
            if not alive(pid):
                self.journal.write("overlap_over", run=run)
                del self._overlapping[run]

    def _note_stall(self, host: str, begin: float, seconds: float) -> None:
        self._stalls.append((begin, seconds))
        self._record_fault("stall", begin, seconds, host)

    def stalled_since(self, begin: float) -> float:
        """For how long the machine has been too busy since then, seconds."""
        self._read_journal()
        return stalled_seconds(self._stalls, begin)

    def schedule(self, at: float, action: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._due, _ScheduledAction(at, self._numbers, action))

    def _run_due_actions(self, now: float) -> None:
        while self._due and self._due[0].at <= now:
            heapq.heappop(self._due).action()

    def undo_faults(self) -> None:
        """End every fault that is still active."""
        for due in sorted(self._due):  # the ends of faults, in their order
            due.action()
        self._due.clear()
        for name, host in self.hosts.items():
            self.journal.write("host_thawed", host=name)
            host.thaw()
            if self.proxy:
                for order in ("resume", "cut"):
                    self.proxy.send_command(order, name)
                self.proxy.send_command("lose_commits", name, number=0)

    def settle(self) -> None:
        """After a lease and a tick no run may be without an owner."""
        healed = boottime()
        self._wait(self.lease + self.fleet_config.tick_seconds + self.slack)
        # A machine that was too busy gets that time once more.
        self._wait(min(_MAX_STALL_SECONDS, self.stalled_since(healed)))
        self._check_leases("after healing")

    def drain(self) -> None:
        """Start nothing new, and wait until nothing runs."""
        from chroniker.models import Job, JobState

        states = JobState.objects.all()
        wait_until(lambda: not states.filter(restart_at__isnull=False).exists(), timeout=60)
        Job.objects.update(enabled=False)
        wait_until(lambda: not states.filter(lease_token__isnull=False).exists(), timeout=60)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._read_journal()
            time.sleep(0.05)

    def _check_leases(self, when: str) -> None:
        from chroniker.models import JobState

        seconds = self.fleet_config.tick_seconds + self.slack
        seconds += self.stalled_since(boottime() - _MAX_STALL_SECONDS)
        tolerance = timedelta(seconds=seconds)
        now = site.database_now()
        for state in JobState.objects.filter(lease_expires_at__lt=now - tolerance).select_related(
            "job"
        ):
            self.stuck.append(f"{when}, {state.job} is owned by a lease of {state.lease_host} "
                              f"that ended at {state.lease_expires_at}, now is {now}")  # fmt: skip

    def _check_unclaimed(self) -> None:
        """No job may be without a plan, or have a slot that is due for long and has no owner.

        On a machine that starts runs, but cannot keep up, that may last longer.
        """
        from chroniker.models import Job, Run

        patience = self.fleet_config.tick_seconds + 1.5 * self.slack
        patience += self.stalled_since(boottime() - patience)
        now = site.database_now()
        if Run.objects.filter(started_at__gte=now - timedelta(seconds=patience)).exists():
            patience *= 10
        scheduled = Job.objects.filter(enabled=True, dependencies=None).exclude(schedule="")
        for job in scheduled.filter(states=None):
            self.stuck.append(f"{job} has no plan at the end")
        for job in scheduled.filter(
            states__lease_token=None, states__next_run_at__lt=now - timedelta(seconds=patience)
        ):
            self.stuck.append(f"{job} is due since more than {patience:.1f} s, and nobody runs it")

    def finish(self) -> None:
        """Shut the hosts down; no process may remain."""
        if self._scraper:
            time.sleep(1.2)  # a last look at the counters
            self._scraper.stop()
            self._scraper = None
        ending = [*self.hosts.values(), *self.ending]
        for host in self.hosts.values():
            host.shut_down()
        for pid in self.helpers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + conf.KILL_GRACE_SECONDS + END_SECONDS
        while waiting := [host for host in ending if not host.ended()]:
            if time.monotonic() > deadline:
                for host in waiting:
                    self.leftovers.append(
                        f"{host.name} did not end: {describe_processes(host.tree())}"
                    )
                    host.power_off()
                break
            time.sleep(0.02)
        self.hosts.clear()
        self.ending.clear()
        if self.fleet_config.settle:
            self._check_all_ended()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self._orphaned_pids(), 3.0)
        self.leftovers += [f"stray {text}" for text in describe_processes(self._orphaned_pids())]
        self._read_journal()

    def _check_all_ended(self) -> None:
        """No run may remain that a tick does not end after its lease.

        A tick that had no time to write an end within two leases leaves it to the next one; as
        the machines have been shut down, that is here.
        """
        from chroniker.engine.reaper import reap
        from chroniker.models import JobState

        leased = JobState.objects.filter(lease_token__isnull=False)
        if not leased.exists():
            return
        self._wait(self.lease + self.slack)
        with override_settings(CHRONIKER_RUNTIME_DIR=str(self._runtime_dir("after"))):
            reap("after", site.database_now(), stale=True)
        for state in leased.select_related("job"):
            log = self.directory / f"{state.lease_host}.log"
            lines = log.read_text(errors="replace").splitlines()
            reported = [line for line in lines if str(state.current_run_id) in line]
            self.stuck.append(
                f"{state.job} is still leased to {state.lease_host} at the end by run "
                f"{state.current_run_id}, of which its log says: {reported}"
            )

    @staticmethod
    def _left_settings() -> list[str]:
        """Settings that the next user of a connection of PgBouncer would find."""
        if site.pooler is None:
            return []
        return [
            f"{name} is {value} on a connection of PgBouncer"
            for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
            for value in site.pooler.server_settings(name)
            if value != "0"
        ]

    def _orphaned_pids(self) -> list[int]:
        """Orphans that the injector got as a subreaper."""
        self._reap_helpers()
        helpers = (self.proxy, self._scraper, self._bystander)
        mine = {helper.pid for helper in helpers if helper}
        mine |= {host.pid for host in self.hosts.values()}
        return [
            pid for pid in tree(os.getpid())[1:] if pid not in mine and alive(pid)
        ]  # fmt: skip

    def _reap_helpers(self) -> None:
        for pid in list(self.helpers):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self.helpers.remove(pid)

    def clean_up(self) -> None:
        """Remove everything, even after an error."""
        for helper in (self._scraper, self._bystander):
            if helper:
                helper.stop()
        for host in [*self.hosts.values(), *self.ending]:
            host.power_off()
        if self.proxy:
            self.proxy.close()
            self.proxy = None
        for pid in tree(os.getpid())[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        self.journal.close()

    # -- faults ----------------------------------------------------------------------------

    def do(self, step: Step) -> None:
        """Start a fault and schedule its end."""
        self.done[step.kind] = self.done.get(step.kind, 0) + 1
        begin = boottime()
        try:
            getattr(self.actions, step.kind)(step)
        except (DatabaseError, InterfaceError, ProcessLookupError) as error:
            logger.info("%s: %s", step, error)
            connection.close()
        self.journal.write("fault", kind=step.kind, host=step.host, seconds=step.seconds)
        host = "" if step.kind in ALL_HOSTS_FAULTS else step.host
        if step.kind == "hold_rows" and self.one_machine:
            return  # a living owner keeps its runs, however long others write
        if step.kind in NO_EXCUSE:
            return
        self._record_fault(step.kind, begin, boottime() - begin + step.seconds, host)

    def _record_fault(self, kind: str, begin: float, seconds: float, host: str = "") -> None:
        """Record a fault that may lose runs."""
        # Its effect shows at most a lease, a tick and the database backoff later.
        after = seconds + self.lease + self.fleet_config.tick_seconds + self.slack
        self.faults.append(
            Fault(
                kind,
                self._offset + int((begin - 0.5) * 1e6),
                self._offset + int((begin + after) * 1e6),
                host,
            )
        )
