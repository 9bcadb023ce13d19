"""The faults: what a step of a plan does to the hosts, the network and the servers."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, connections, transaction

from chroniker.conf import conf
from tests.faults import servers, site
from tests.faults.current import ALIAS
from tests.faults.hosts import (
    HostConfig,
    alive,
    be_tick,
    configure,
    describe_processes,
    proc_children,
    proc_state,
    start_of,
    tree,
)
from tests.faults.journal import boottime
from tests.faults.plan import Step
from tests.faults.site import connection

if TYPE_CHECKING:
    from tests.faults.injector import FaultInjector

DEAD_WITHIN_SECONDS = 2.0 + 1.0
"""After a SIGKILL nothing of a tick is left after two seconds; one more for a busy machine."""
END_SECONDS = 10.0
"""What a busy machine may take, beyond the grace time, until all ticks have obeyed a SIGTERM."""
SKEWS = (90.0, -90.0, 3600.0, -3600.0)


class FaultActions:
    """One method for each kind of step."""

    def __init__(self, fleet: FaultInjector) -> None:
        self._fleet = fleet

    def _in(self, step: Step, action: Callable[[], None]) -> None:
        self._fleet.schedule(time.monotonic() + step.seconds, action)

    def _pick(self, pids: list[int]) -> int | None:
        return self._fleet.chance.choice(pids) if pids else None

    def _kill(self, pids: list[int]) -> None:
        if pid := self._pick(pids):
            os.kill(pid, signal.SIGKILL)

    def kill_tick(self, step: Step) -> None:
        tick = self._pick(self._fleet.hosts[step.host].roles().ticks)
        if tick is None:
            return
        below = tree(tick)[1:]
        os.kill(tick, signal.SIGKILL)
        self._expect_dead(below, f"of tick {tick} of {step.host}, killed")

    def _expect_dead(self, pids: list[int], what: str) -> None:
        began = {pid: start_of(pid) for pid in pids}
        killed = boottime()

        def look() -> None:
            if self._fleet.stalled_since(killed) > boottime() - killed - DEAD_WITHIN_SECONDS:
                self._fleet.schedule(time.monotonic() + 0.5, look)  # they got no CPU
                return
            living = [
                pid
                for pid in pids
                # Wardens cannot end frozen processes; they are checked after healing.
                if alive(pid) and proc_state(pid) != "T" and start_of(pid) == began[pid]
            ]
            if living:
                self._fleet.leftovers.append(f"{what}, there is still {describe_processes(living)}")

        self._fleet.schedule(time.monotonic() + DEAD_WITHIN_SECONDS, look)

    def kill_forkserver(self, step: Step) -> None:
        self._kill(self._fleet.hosts[step.host].roles().forkservers)

    def kill_warden(self, step: Step) -> None:
        # A warden whose fork server was killed before is left alone: daemons of its job would have
        # no parent to end them (docs/explanation/guarantees.md names this as not guaranteed).
        roles = self._fleet.hosts[step.host].roles()
        guarded = [pid for forkserver in roles.forkservers for pid in proc_children(forkserver)]
        warden = self._pick([pid for pid in roles.wardens if pid in guarded])
        if warden is None:
            return
        below = tree(warden)[1:]
        os.kill(warden, signal.SIGKILL)
        self._expect_dead(below, f"of warden {warden} of {step.host}, killed")

    def kill_job(self, step: Step) -> None:
        self._kill(self._fleet.hosts[step.host].roles().jobs)

    def freeze_tick(self, step: Step) -> None:
        self._freeze(step, self._pick(self._fleet.hosts[step.host].roles().ticks))

    def freeze_job(self, step: Step) -> None:
        self._freeze(step, self._pick(self._fleet.hosts[step.host].roles().jobs))

    def _freeze(self, step: Step, pid: int | None) -> None:
        if pid is None:
            return
        host = self._fleet.hosts[step.host]
        os.kill(pid, signal.SIGSTOP)
        host.frozen.add(pid)

        def thaw() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            host.frozen.discard(pid)

        self._in(step, thaw)

    def freeze_host(self, step: Step) -> None:
        host = self._fleet.hosts[step.host]
        host.freeze()
        self._fleet.journal.write("host_frozen", host=step.host)

        def thaw() -> None:
            self._fleet.journal.write("host_thawed", host=step.host)
            host.thaw()

        self._in(step, thaw)

    def power_off(self, step: Step) -> None:
        self._switch_off(step.host)
        self._in(step, lambda: self._switch_on(step.host))

    def _switch_off(self, name: str) -> None:
        host = self._fleet.hosts.pop(name)
        if self._fleet.proxy:
            self._fleet.proxy.send_command("cut", name)
        killed = host.power_off()
        if not self._fleet.one_machine:
            for file in host.config.runtime_dir.iterdir():  # a reboot empties it
                file.unlink()
        self._expect_dead(killed, f"of {name}, switched off")

    def _switch_on(self, name: str) -> None:
        if name not in self._fleet.hosts:
            self._fleet.start_host(name)

    def power_off_all(self, step: Step) -> None:
        names = list(self._fleet.hosts)
        for name in names:
            self._switch_off(name)

        def end() -> None:
            for name in names:
                self._switch_on(name)

        self._in(step, end)

    def burst(self, step: Step) -> None:
        self.release_ticks(8)

    def release_ticks(self, number: int, **options: Any) -> list[int]:
        """Start this many ticks at one instant, spread over the hosts."""
        connections.close_all()
        ready, go = os.pipe()
        pids = []
        configs = [host.config for host in self._fleet.hosts.values()]
        for each in range(number):
            config = configs[each % len(configs)]
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    self._fleet.close_inherited()
                    os.close(go)
                    configure(config)
                    log = os.open(
                        self._fleet.directory / "burst.log",
                        os.O_WRONLY | os.O_APPEND | os.O_CREAT,
                        0o600,
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
        self._fleet.helpers += pids
        os.close(ready)
        time.sleep(0.05)
        os.close(go)
        return pids

    def ask_run(self, step: Step) -> None:
        from chroniker.models import JobState

        states = list(JobState.objects.values_list("pk", flat=True))
        if states:
            JobState.objects.filter(pk=self._fleet.chance.choice(states)).request_run(
                datetime.now(UTC)
            )

    def ask_stop(self, step: Step) -> None:
        from chroniker.models import JobState

        states = list(
            JobState.objects.filter(lease_token__isnull=False).values_list("pk", flat=True)
        )
        if states:
            JobState.objects.filter(pk=self._fleet.chance.choice(states)).request_stop(
                datetime.now(UTC)
            )

    def hold_rows(self, step: Step) -> None:
        """Another program holds a long write transaction: state rows, or the whole SQLite file."""
        connections.close_all()
        pid = os.fork()
        if pid == 0:
            try:
                from chroniker.models import JobState

                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                self._fleet.close_inherited()
                with transaction.atomic(using=ALIAS):
                    states = list(JobState.objects.order_by("pk").values_list("pk", flat=True))[::4]
                    JobState.objects.filter(pk__in=states).update(stop_requested_at=None)
                    time.sleep(step.seconds)
            finally:
                os._exit(0)
        self._fleet.helpers.append(pid)

    def terminate(self, step: Step) -> None:
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

    def crash(self, step: Step) -> None:
        """The database server crashes and is restarted."""
        server = servers.current
        if server is None:
            return
        connections.close_all()
        server.stop()
        self._in(step, server.start)

    def _send_to_proxy(self, step: Step, do: str, **facts: Any) -> None:
        assert self._fleet.proxy
        self._fleet.proxy.send_command(do, step.host, **facts)

    def cut(self, step: Step) -> None:
        self._send_to_proxy(step, "cut")

    def refuse(self, step: Step) -> None:
        self._send_to_proxy(step, "refuse", on=True)
        self._send_to_proxy(step, "cut")
        self._in(step, lambda: self._send_to_proxy(step, "refuse", on=False))

    def blackhole(self, step: Step) -> None:
        """The network is cut; the connections end as dead."""
        self._send_to_proxy(step, "blackhole")

        def end() -> None:
            self._send_to_proxy(step, "cut")
            self._send_to_proxy(step, "resume")

        self._in(step, end)

    def silence(self, step: Step) -> None:
        """The network stalls and then delivers everything."""
        self._send_to_proxy(step, "blackhole")
        self._in(step, lambda: self._send_to_proxy(step, "resume"))

    def delay(self, step: Step) -> None:
        self._send_to_proxy(step, "delay", seconds=0.03)
        self._in(step, lambda: self._send_to_proxy(step, "delay", seconds=0.0))

    def lose_commits(self, step: Step) -> None:
        self._send_to_proxy(step, "lose_commits", number=step.number)

    def skew(self, step: Step) -> None:
        """The host starts with another clock."""
        self._fleet.skews[step.host] = self._fleet.chance.choice(SKEWS)
        self._switch_off(step.host)
        self._switch_on(step.host)

    def step_clock(self, step: Step) -> None:
        """The clock of a tick is changed while it runs."""
        for pid in self._fleet.hosts[step.host].roles().ticks:
            os.kill(pid, signal.SIGUSR2)

    def full_disk(self, step: Step) -> None:
        """Fill the file system of the SQLite file, if it has its own."""
        disk = (self._fleet.directory / "disk").resolve()
        if not os.path.ismount(disk):
            return
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        self._in(step, lambda: ballast.unlink(missing_ok=True))

    def kill_pooler(self, step: Step) -> None:
        """PgBouncer is killed and started again."""
        assert site.pooler
        site.pooler.kill()
        self._in(step, site.start_pooler)

    def crash_replica(self, step: Step) -> None:
        """The replica crashes; nothing of Chroniker may notice."""
        replica = servers.replica
        assert replica
        connections.close_all()
        replica.stop()
        self._in(step, lambda: replica.start(wait=False))

    def restart(self, step: Step) -> None:
        """A host is restarted in order, as in a deploy: SIGTERM to its tick, then a new one."""
        host = self._fleet.hosts.pop(step.host, None)
        if host is None:
            return  # it has not ended yet
        host.shut_down()
        began = time.monotonic()

        def look() -> None:
            if not host.ended():
                if time.monotonic() < began + conf.KILL_GRACE_SECONDS + END_SECONDS:
                    self._fleet.schedule(time.monotonic() + 0.05, look)
                    return
                self._fleet.leftovers.append(f"{step.host} did not obey SIGTERM")
                host.power_off()
            self._fleet.restarts.append(round(time.monotonic() - began, 2))
            self._fleet.start_host(step.host)

        look()

    def replace_host(self, step: Step) -> None:
        """A pod ends in order, and another one with a new name starts."""
        host = self._fleet.hosts.pop(step.host)
        self._fleet.start_host(f"h{step.number}")
        host.shut_down()
        self._fleet.ending.append(host)

    def kill_host(self, step: Step) -> None:
        """A pod is killed, and another one with a new name starts."""
        self._switch_off(step.host)
        self._fleet.start_host(f"h{step.number}")
