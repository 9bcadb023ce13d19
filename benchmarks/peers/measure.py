"""What is measured of each scheduler."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .contestants import Peer
from .processes import Processes
from .servers import SITE, Servers

SIZES = (1, 100, 1000)
LEAD_SECONDS = 12
"""From the definition of jobs to the moment that they are due, without what 1,000 take."""
GIVE_UP_SECONDS = 150
TICK_SECONDS = 60
"""How often cron starts a tick."""
IDLE_JOBS = 1000
SETTLE_SECONDS = 10
IDLE_SECONDS = 30
KILL_JOBS = 20
KILL_JOB_SECONDS = 4
RESTART_SECONDS = 3
AFTER_KILL_SECONDS = 80


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast due jobs are done."""

    jobs: int
    done: int
    first_began: float | None
    """Seconds after they were due."""
    last_ended: float | None
    """Seconds after they were due, if all have ended."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What became of the jobs after the scheduler was killed and started again."""

    with_children: bool
    """Whether its children were killed too, or left to themselves."""
    unfinished: int
    """Jobs that have not ended."""
    reported: int | None
    """How many runs the scheduler itself calls failed or lost; None if it keeps no record."""
    stuck: int | None
    """How many it still takes for running."""
    doubled: int
    """Jobs that have ended more than once."""
    overlapped: int
    """Jobs that were running twice at the same time."""


@dataclass(slots=True)
class Result:
    """All figures of a scheduler."""

    name: str
    version: str
    speed: list[Speed] = field(default_factory=list)
    idle_cpu_hour: float = 0.0
    """CPU seconds in an hour on which nothing is due, with 1,000 jobs."""
    memory_bytes: int = 0
    killed: list[Killed] = field(default_factory=list)
    page: dict[str, Any] | None = None
    scrape: dict[str, Any] | None = None


class Contest:
    """A scheduler on its own database."""

    def __init__(self, peer: Peer, python: Path, servers: Servers) -> None:
        self.peer, self.python, self.servers = peer, python, servers
        self.environ = peer.environ(servers)
        self.output = servers.folder / f"{peer.control}.log"

    def prepare(self) -> None:
        """Create its tables."""
        self.servers.recreate_database(self.environ["PEERS_DB"])
        self.control("prepare")

    def control(self, action: str, **arguments: Any) -> Any:
        """Run its control program. Raises CalledProcessError."""
        done = subprocess.run(
            [self.python, "-m", f"control.{self.peer.control}", action, json.dumps(arguments)],
            cwd=SITE, env=self.environ, stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])

    @contextmanager
    def scheduler(self) -> Iterator[Processes]:
        """Its processes; what is left of them at the end is killed."""
        self.control("clear")
        self.servers.log.unlink(missing_ok=True)
        processes = Processes(self.python, self.environ, self.output)
        try:
            yield processes
        finally:
            processes.stop()

    def speed(self, jobs: int) -> Speed:
        """Let jobs become due, and wait until they are done."""
        with self.scheduler() as processes:
            due = self._add(jobs, processes)
            ticks = self._ticks(processes, due)
            while time.time() < due + GIVE_UP_SECONDS:
                next(ticks)
                if len(ended := self._ended()) == jobs:
                    break
                time.sleep(0.05)
            began = self._noted("began")
        first = min((at for _, at in began), default=None)
        last = max(ended.values()) if len(ended) == jobs else None
        return Speed(jobs, len(ended), first - due if first else None, last - due if last else None)

    def _add(self, jobs: int, processes: Processes, seconds: float = 0.0) -> float:
        """Define jobs and start the daemons; return the time that the jobs are due."""
        due = float(int(time.time()) + LEAD_SECONDS + jobs // 60)
        self.control("add", number=jobs, due=due, seconds=seconds)
        processes.start(*self.peer.daemons)
        if self.peer.tick:  # the one before, which finds nothing due
            processes.start(self.peer.tick)
            while processes.alive:
                time.sleep(0.05)
        if (late := time.time() - due) > 0:
            raise RuntimeError(f"it took {late:.0f} s too long to start")
        time.sleep(max(0.0, due - time.time() - 1))
        if self.peer.daemons and any(daemon.poll() is not None for daemon in processes.started):
            raise RuntimeError("it has ended by itself")
        return due

    def _ticks(self, processes: Processes, due: float) -> Iterator[None]:
        """Start a tick when the jobs are due, and one each minute from then on, as cron does."""
        started = 0
        while True:
            if self.peer.tick and time.time() >= due + started * TICK_SECONDS:
                processes.start(self.peer.tick)
                started += 1
            yield

    def idle(self) -> tuple[float, int]:
        """Return CPU seconds in an hour on which nothing is due, and memory at rest."""
        with self.scheduler() as processes:
            self.control("add", number=IDLE_JOBS, due=0, seconds=0)
            if self.peer.tick:
                return statistics.median(self._tick_cpu() for _ in range(4)) * 60, 0
            processes.start(*self.peer.daemons)
            time.sleep(SETTLE_SECONDS)
            before, began = processes.cpu_seconds(), time.monotonic()
            time.sleep(IDLE_SECONDS)
            used = processes.cpu_seconds() - before
            return used / (time.monotonic() - began) * 3600, processes.pss_bytes()

    def _tick_cpu(self) -> float:
        with self.output.open("ab") as log:
            process = subprocess.Popen(
                [self.python, *self.peer.tick], cwd=SITE, env=self.environ, stdout=log, stderr=log
            )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime + usage.ru_stime

    def killed(self, *, with_children: bool) -> Killed:
        """Kill the scheduler while jobs run, start it again, and look for the jobs."""
        with self.scheduler() as processes:
            due = self._add(KILL_JOBS, processes, KILL_JOB_SECONDS)
            ticks = self._ticks(processes, due)
            while not self._noted("began") and time.time() < due + GIVE_UP_SECONDS:
                next(ticks)
                time.sleep(0.05)
            time.sleep(KILL_JOB_SECONDS / 2)
            processes.kill(with_children=with_children)
            time.sleep(RESTART_SECONDS)
            processes.start(*self.peer.daemons)
            restarted = time.time()
            ticks = self._ticks(processes, restarted)
            while time.time() < restarted + AFTER_KILL_SECONDS:
                next(ticks)
                time.sleep(0.1)
            states = self.control("states")
            ended = Counter(name for name, _ in self._noted("ended"))
            overlapped = self._overlapped()
        return Killed(
            with_children,
            unfinished=KILL_JOBS - len(ended),
            reported=states.get("reported"),
            stuck=states.get("stuck"),
            doubled=sum(times > 1 for times in ended.values()),
            overlapped=overlapped,
        )

    def _noted(self, what: str) -> list[tuple[str, float]]:
        return [(name, at) for kind, name, at, _ in self._lines() if kind == what]

    def _lines(self) -> Iterator[tuple[str, str, float, str]]:
        """Yield what happened, to which job, when, and in which run."""
        try:
            text = self.servers.log.read_text()
        except FileNotFoundError:
            return
        for line in text.splitlines():
            what, name, at, run = line.split()
            yield what, name, float(at), run

    def _ended(self) -> dict[str, float]:
        return dict(self._noted("ended"))

    def _overlapped(self) -> int:
        """Count jobs that began again before a run of theirs ended."""
        lines = list(self._lines())
        began = {run: (name, at) for what, name, at, run in lines if what == "began"}
        ended = {run: at for what, _, at, run in lines if what == "ended"}
        return len(
            {
                name
                for run, end in ended.items()
                for other, (name, at) in began.items()
                if other != run and name == began[run][0] and began[run][1] < at < end
            }
        )
