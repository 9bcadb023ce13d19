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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import DatabaseError, InterfaceError, connection, connections, transaction
from django.test import override_settings

from chroniker.conf import conf
from tests.faults import servers, site
from tests.faults.checker import Fault, History, JobFacts
from tests.faults.hosts import (
    Host,
    HostConfig,
    alive,
    be_tick,
    configure,
    proc_children,
    proc_state,
    tree,
)
from tests.faults.journal import DIRECTORY_VARIABLE, Journal, boottime
from tests.faults.plan import Plan, Step
from tests.faults.proxy import Proxy
from tests.support.processes import wait_until

logger = logging.getLogger(__name__)

SLACK_SECONDS = 1.5
"""What a busy machine may add to a lease and a tick before a run counts as stuck."""
DEAD_WITHIN_SECONDS = 2.0 + 1.0
"""After a SIGKILL nothing of a tick is left after two seconds; one more for a busy machine."""
END_SECONDS = 10.0
"""What a busy machine may take, beyond the grace time, until all ticks have obeyed a SIGTERM."""
STARVED_SECONDS = 0.3
"""How late this process may wake up before the machine itself counts as a fault."""
ALL_HOSTS_FAULTS = frozenset(
    {"power_off_all", "hold_rows", "burst", "full_disk", "crash", "terminate"}
)
"""Faults that may affect any host."""
SKEWS = (90.0, -90.0, 3600.0, -3600.0)


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
        self.lease: float = conf.LEASE_SECONDS
        self.one_machine = connection.vendor == "sqlite"
        self.journal = Journal(directory)
        self.proxy: Proxy | None = None
        self.ports: dict[str, int] = {}
        self.hosts: dict[str, Host] = {}
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
        self._overlapping: dict[int, int] = {}
        self._journal_read = 0
        os.environ[DIRECTORY_VARIABLE] = str(directory)

    # -- from beginning to end -------------------------------------------------------------

    def perform(self, plan: Plan, jobs: list[JobFacts]) -> History:
        """Perform the plan, heal, settle, end everything, and collect."""
        try:
            self.start()
            self.inject(plan)
            self.undo_faults()
            if self.fleet_config.settle:
                self.settle()
            self.finish()
        finally:
            self.clean_up()
        history = site.read_history(jobs, self.directory)
        history.leftovers = self.leftovers
        history.stuck = self.stuck
        history.faults = self.faults
        history.boot = self._offset
        return history

    def start(self) -> None:
        # One clock for the checker: that of the database, relative to CLOCK_BOOTTIME.
        self._offset = min(_clock_offset() for _ in range(20))[1]
        connections.close_all()
        names = [f"h{number}" for number in range(1, self.fleet_config.hosts + 1)]
        if not self.one_machine:
            where = connection.settings_dict
            self.proxy = Proxy(connection.vendor, (where["HOST"], int(where["PORT"])))
            self.ports = {name: self.proxy.send_command("door", name) for name in names}
        self._scraper = site.MetricsScraper(self.directory)
        for number, name in enumerate(names):
            self.skews[name] = (
                self.fleet_config.skews[number] if number < len(self.fleet_config.skews) else 0.0
            )
            self.start_host(name)

    def start_host(self, name: str) -> None:
        number = int(name[1:])
        server = {"all": True, "none": False}.get(self.fleet_config.servers, number % 2 == 1)
        config = HostConfig(
            name=name,
            directory=self.directory,
            runtime_dir=self._runtime_dir(name),
            tick_seconds=self.fleet_config.tick_seconds,
            server=server,
            port=self.ports.get(name),
            clock_offset=self.skews[name],
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
            self._watch_overlaps()
            wait = (self._due[0].at if self._due else now + 0.05) - time.monotonic()
            wait = min(0.05, max(0.001, wait))
            slept = boottime()
            time.sleep(wait)
            if (late := boottime() - slept - wait) > STARVED_SECONDS:
                logger.warning("The machine is busy: a sleep was %.2f s too long", late)
                self._record_fault("starved", slept, late)

    def _watch_overlaps(self) -> None:
        """An instance that recorded an overlap and was killed has no end of the overlap."""
        with self.journal.path.open("rb") as file:
            file.seek(self._journal_read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._journal_read += len(whole)
        for line in whole.splitlines():
            if b'"overlap"' in line:
                entry = json.loads(line)
                self._overlapping[entry["run"]] = entry["pid"]
        for run, pid in list(self._overlapping.items()):
            if not alive(pid):
                self.journal.write("overlap_over", run=run)
                del self._overlapping[run]

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
        self._wait(self.lease + self.fleet_config.tick_seconds + SLACK_SECONDS)
        self._check_leases("after healing")

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._watch_overlaps()
            time.sleep(0.05)

    def _check_leases(self, when: str) -> None:
        from chroniker.models import JobState

        tolerance = timedelta(seconds=self.fleet_config.tick_seconds + SLACK_SECONDS)
        now = site.database_now()
        for state in JobState.objects.filter(lease_expires_at__lt=now - tolerance).select_related(
            "job"
        ):
            self.stuck.append(f"{when}, {state.job} is owned by a lease of {state.lease_host} "
                              f"that ended at {state.lease_expires_at}, now is {now}")  # fmt: skip

    def finish(self) -> None:
        """Shut the hosts down; no process may remain."""
        if self._scraper:
            time.sleep(1.2)  # a last look at the counters
            self._scraper.stop()
            self._scraper = None
        for host in self.hosts.values():
            host.shut_down()
        for pid in self.helpers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + conf.KILL_GRACE_SECONDS + END_SECONDS
        while waiting := [host for host in self.hosts.values() if not host.ended()]:
            if time.monotonic() > deadline:
                for host in waiting:
                    self.leftovers.append(
                        f"{host.name} did not end: {_describe_processes(host.tree())}"
                    )
                    host.power_off()
                break
            time.sleep(0.02)
        self.hosts.clear()
        if self.fleet_config.settle:
            self._check_all_ended()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self._orphaned_pids(), 3.0)
        self.leftovers += [f"stray {text}" for text in _describe_processes(self._orphaned_pids())]

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
        self._wait(self.lease + SLACK_SECONDS)
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

    def _orphaned_pids(self) -> list[int]:
        """Orphans that the injector got as a subreaper."""
        self._reap_helpers()
        mine = {self.proxy.pid if self.proxy else 0, self._scraper.pid if self._scraper else 0}
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
        if self._scraper:
            self._scraper.stop()
        for host in self.hosts.values():
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
            getattr(self, f"_{step.kind}")(step)
        except (DatabaseError, InterfaceError, ProcessLookupError) as error:
            logger.info("%s: %s", step, error)
            connection.close()
        self.journal.write("fault", kind=step.kind, host=step.host, seconds=step.seconds)
        host = "" if step.kind in ALL_HOSTS_FAULTS else step.host
        if step.kind == "hold_rows" and self.one_machine:
            return  # a living owner keeps its runs, however long others write
        self._record_fault(step.kind, begin, boottime() - begin + step.seconds, host)

    def _record_fault(self, kind: str, begin: float, seconds: float, host: str = "") -> None:
        """Record a fault that may lose runs."""
        # Its effect shows at most a lease, a tick and the database backoff later.
        after = seconds + self.lease + self.fleet_config.tick_seconds + SLACK_SECONDS
        self.faults.append(
            Fault(
                kind,
                self._offset + int((begin - 0.5) * 1e6),
                self._offset + int((begin + after) * 1e6),
                host,
            )
        )

    def _in(self, step: Step, action: Callable[[], None]) -> None:
        self.schedule(time.monotonic() + step.seconds, action)

    def _pick(self, pids: list[int]) -> int | None:
        return self.chance.choice(pids) if pids else None

    def _kill(self, pids: list[int]) -> None:
        if pid := self._pick(pids):
            os.kill(pid, signal.SIGKILL)

    def _kill_tick(self, step: Step) -> None:
        tick = self._pick(self.hosts[step.host].roles().ticks)
        if tick is None:
            return
        below = tree(tick)[1:]
        os.kill(tick, signal.SIGKILL)
        self._expect_dead(below, f"of tick {tick} of {step.host}, killed")

    def _expect_dead(self, pids: list[int], what: str) -> None:
        began = {pid: _start_of(pid) for pid in pids}

        def look() -> None:
            living = [
                pid
                for pid in pids
                # Wardens cannot end frozen processes; they are checked after healing.
                if alive(pid) and proc_state(pid) != "T" and _start_of(pid) == began[pid]
            ]
            if living:
                self.leftovers.append(f"{what}, there is still {_describe_processes(living)}")

        self.schedule(time.monotonic() + DEAD_WITHIN_SECONDS, look)

    def _kill_forkserver(self, step: Step) -> None:
        self._kill(self.hosts[step.host].roles().forkservers)

    def _kill_warden(self, step: Step) -> None:
        # A warden whose fork server was killed before is left alone: daemons of its job would have
        # no parent to end them (docs/explanation/guarantees.md names this as not guaranteed).
        roles = self.hosts[step.host].roles()
        guarded = [pid for forkserver in roles.forkservers for pid in proc_children(forkserver)]
        warden = self._pick([pid for pid in roles.wardens if pid in guarded])
        if warden is None:
            return
        below = tree(warden)[1:]
        os.kill(warden, signal.SIGKILL)
        self._expect_dead(below, f"of warden {warden} of {step.host}, killed")

    def _kill_job(self, step: Step) -> None:
        self._kill(self.hosts[step.host].roles().jobs)

    def _freeze_tick(self, step: Step) -> None:
        self._freeze(step, self._pick(self.hosts[step.host].roles().ticks))

    def _freeze_job(self, step: Step) -> None:
        self._freeze(step, self._pick(self.hosts[step.host].roles().jobs))

    def _freeze(self, step: Step, pid: int | None) -> None:
        if pid is None:
            return
        host = self.hosts[step.host]
        os.kill(pid, signal.SIGSTOP)
        host.frozen.add(pid)

        def thaw() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            host.frozen.discard(pid)

        self._in(step, thaw)

    def _freeze_host(self, step: Step) -> None:
        host = self.hosts[step.host]
        host.freeze()
        self.journal.write("host_frozen", host=step.host)

        def thaw() -> None:
            self.journal.write("host_thawed", host=step.host)
            host.thaw()

        self._in(step, thaw)

    def _power_off(self, step: Step) -> None:
        self._switch_off(step.host)
        self._in(step, lambda: self._switch_on(step.host))

    def _switch_off(self, name: str) -> None:
        host = self.hosts.pop(name)
        if self.proxy:
            self.proxy.send_command("cut", name)
        killed = host.power_off()
        if not self.one_machine:
            for file in host.config.runtime_dir.iterdir():  # a reboot empties it
                file.unlink()
        self._expect_dead(killed, f"of {name}, switched off")

    def _switch_on(self, name: str) -> None:
        if name not in self.hosts:
            self.start_host(name)

    def _power_off_all(self, step: Step) -> None:
        names = list(self.hosts)
        for name in names:
            self._switch_off(name)

        def end() -> None:
            for name in names:
                self._switch_on(name)

        self._in(step, end)

    def _burst(self, step: Step) -> None:
        self.release_ticks(8)

    def release_ticks(self, number: int, **options: Any) -> list[int]:
        """Start this many ticks at one instant, spread over the hosts."""
        connections.close_all()
        ready, go = os.pipe()
        pids = []
        configs = [host.config for host in self.hosts.values()]
        for each in range(number):
            config = configs[each % len(configs)]
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    self.close_inherited()
                    os.close(go)
                    configure(config)
                    log = os.open(
                        self.directory / "burst.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
                    )
                    os.dup2(log, 1)
                    os.dup2(log, 2)
                    os.read(ready, 1)  # ends for all at the same instant
                    alone = HostConfig(
                        name=config.name, directory=config.directory,
                        runtime_dir=config.runtime_dir, tick_seconds=config.tick_seconds,
                        server=False, port=config.port, prepare=config.prepare,
                    )  # fmt: skip
                    code = be_tick(alone, **options)
                finally:
                    os._exit(code)
            pids.append(pid)
        self.helpers += pids
        os.close(ready)
        time.sleep(0.05)
        os.close(go)
        return pids

    def _ask_run(self, step: Step) -> None:
        from chroniker.models import JobState

        states = list(JobState.objects.values_list("pk", flat=True))
        if states:
            JobState.objects.filter(pk=self.chance.choice(states)).request_run(datetime.now(UTC))

    def _ask_stop(self, step: Step) -> None:
        from chroniker.models import JobState

        states = list(
            JobState.objects.filter(lease_token__isnull=False).values_list("pk", flat=True)
        )
        if states:
            JobState.objects.filter(pk=self.chance.choice(states)).request_stop(datetime.now(UTC))

    def _hold_rows(self, step: Step) -> None:
        """Another program holds a long write transaction: state rows, or the whole SQLite file."""
        connections.close_all()
        pid = os.fork()
        if pid == 0:
            try:
                from chroniker.models import JobState

                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                self.close_inherited()
                with transaction.atomic():
                    states = list(JobState.objects.order_by("pk").values_list("pk", flat=True))[::4]
                    JobState.objects.filter(pk__in=states).update(stop_requested_at=None)
                    time.sleep(step.seconds)
            finally:
                os._exit(0)
        self.helpers.append(pid)

    def _terminate(self, step: Step) -> None:
        """The administrator terminates database sessions."""
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                    "datname = current_database() AND pid <> pg_backend_pid() "
                    "ORDER BY random() LIMIT %s", [step.number],
                )  # fmt: skip
                return
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE db = DATABASE() "
                "AND id <> CONNECTION_ID() ORDER BY RAND() LIMIT %s", [step.number],
            )  # fmt: skip
            for (number,) in cursor.fetchall():
                with contextlib.suppress(DatabaseError):
                    cursor.execute(f"KILL {int(number)}")

    def _crash(self, step: Step) -> None:
        """The database server crashes and is restarted."""
        server = servers.current
        if server is None:
            return
        connections.close_all()
        server.stop()
        self._in(step, server.start)

    def _send_to_proxy(self, step: Step, do: str, **facts: Any) -> None:
        assert self.proxy
        self.proxy.send_command(do, step.host, **facts)

    def _cut(self, step: Step) -> None:
        self._send_to_proxy(step, "cut")

    def _refuse(self, step: Step) -> None:
        self._send_to_proxy(step, "refuse", on=True)
        self._send_to_proxy(step, "cut")
        self._in(step, lambda: self._send_to_proxy(step, "refuse", on=False))

    def _blackhole(self, step: Step) -> None:
        """The network is cut; the connections end as dead."""
        self._send_to_proxy(step, "blackhole")

        def end() -> None:
            self._send_to_proxy(step, "cut")
            self._send_to_proxy(step, "resume")

        self._in(step, end)

    def _silence(self, step: Step) -> None:
        """The network stalls and then delivers everything."""
        self._send_to_proxy(step, "blackhole")
        self._in(step, lambda: self._send_to_proxy(step, "resume"))

    def _delay(self, step: Step) -> None:
        self._send_to_proxy(step, "delay", seconds=0.03)
        self._in(step, lambda: self._send_to_proxy(step, "delay", seconds=0.0))

    def _lose_commits(self, step: Step) -> None:
        self._send_to_proxy(step, "lose_commits", number=step.number)

    def _skew(self, step: Step) -> None:
        """The host starts with another clock."""
        self.skews[step.host] = self.chance.choice(SKEWS)
        self._switch_off(step.host)
        self._switch_on(step.host)

    def _step_clock(self, step: Step) -> None:
        """The clock of a tick is changed while it runs."""
        for pid in self.hosts[step.host].roles().ticks:
            os.kill(pid, signal.SIGUSR2)

    def _full_disk(self, step: Step) -> None:
        """Fill the file system of the SQLite file, if it has its own."""
        disk = (self.directory / "disk").resolve()
        if not os.path.ismount(disk):
            return
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        self._in(step, lambda: ballast.unlink(missing_ok=True))


def _start_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _describe_processes(pids: list[int]) -> list[str]:
    reported = []
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            reported.append(f"{pid} (state {stat[0]}, parent {stat[1]}, session {stat[3]})")
        except (OSError, IndexError):
            reported.append(f"{pid} (gone)")
    return reported
