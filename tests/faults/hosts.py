"""Fake hosts: process trees with a name, a clock, a runtime directory and a connection.

The root of a host's tree is its *init*: as on a real machine, orphans fall to it, and it starts
ticks: one server that ticks by itself (``cronserver``), or a new process each time (``cron``). All
are forked from the injector, which has Django loaded.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tests.faults.current import DEPLOYMENT
from tests.faults.deployment import Deployment
from tests.faults.journal import Journal

_POLL_SECONDS = 0.02
_MAX_TICKS = 10
"""The maximum number of ticks that a host runs at once; servers have such a limit."""


@dataclass(frozen=True, slots=True)
class HostConfig:
    """The configuration of a host."""

    name: str
    directory: Path
    runtime_dir: Path
    tick_seconds: float
    server: bool
    """Whether one process ticks for ever; otherwise a new one ticks each time."""
    port: int | None
    """The port of its connection to the database; None: a direct connection."""
    clock_offset: float = 0.0
    prepare: Callable[[], None] | None = None
    """Called in each tick before it begins: a mutant applies itself here."""


def proc_children(pid: int) -> list[int]:
    """The children of all threads of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            found += map(int, text.split())
    return found


def proc_state(pid: int) -> str:
    """The state letter of proc(5); empty where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def alive(pid: int) -> bool:
    """Whether a process is alive; zombies are not."""
    return proc_state(pid) not in ("", "Z", "X")


def tree(pid: int) -> list[int]:
    """A process and all below it, parents first."""
    found = [pid]
    for one in found:
        found += proc_children(one)
    return found


def start_of(pid: int) -> str:
    """The time at which a process started, in ticks since boot; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def describe_processes(pids: list[int]) -> list[str]:
    """A few words about each process."""
    reported = []
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            reported.append(f"{pid} (state {stat[0]}, parent {stat[1]}, session {stat[3]})")
        except (OSError, IndexError):
            reported.append(f"{pid} (gone)")
    return reported


@dataclass(slots=True)
class Roles:
    """The processes of a host by role."""

    ticks: list[int] = field(default_factory=list)
    forkservers: list[int] = field(default_factory=list)
    wardens: list[int] = field(default_factory=list)
    jobs: list[int] = field(default_factory=list)
    others: list[int] = field(default_factory=list)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def roles_of(init: int) -> Roles:
    """Classify the processes by their place in the tree."""
    roles = Roles()
    for pid in proc_children(init):
        if _session(pid) == init:
            roles.ticks.append(pid)
        else:  # its fork server was killed
            _sort_warden(pid, roles)
    for tick in roles.ticks:
        for forkserver in proc_children(tick):
            roles.forkservers.append(forkserver)
            for warden in proc_children(forkserver):
                _sort_warden(warden, roles)
    for name in ("ticks", "forkservers", "wardens", "jobs", "others"):
        setattr(roles, name, [pid for pid in getattr(roles, name) if alive(pid)])
    return roles


def _sort_warden(pid: int, roles: Roles) -> None:
    children = proc_children(pid)
    if not children:
        return  # not started yet, or no longer relevant
    roles.wardens.append(pid)
    for child in children:
        (roles.jobs if _session(child) == pid else roles.others).append(child)
        roles.others += tree(child)[1:]


class Host:
    """A host as the injector sees it."""

    def __init__(self, config: HostConfig, close_inherited: Callable[[], None]) -> None:
        self.config = config
        self.name = config.name
        self.frozen: set[int] = set()
        config.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _start_init(config, close_inherited)

    def roles(self) -> Roles:
        return roles_of(self.pid)

    def tree(self) -> list[int]:
        return tree(self.pid)

    def freeze(self) -> list[int]:
        """Freeze the whole host, parents first; the pids."""
        stopped: list[int] = []
        while more := [pid for pid in self.tree() if pid not in stopped and alive(pid)]:
            for pid in more:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            stopped += more
        self.frozen.update(stopped)
        return stopped

    def thaw(self) -> None:
        """Resume the host, jobs first: the worst order."""
        for pid in reversed(self.tree()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen.clear()

    def power_off(self) -> list[int]:
        """Kill everything at once, as a power failure does; the pids."""
        killed: list[int] = []
        while more := [pid for pid in self.tree() if pid not in killed]:
            for pid in more:  # init first: it then starts nothing more
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            killed += more
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.frozen.clear()
        self.wait()
        return killed

    def shut_down(self) -> None:
        """Shut the host down: init ends its ticks, then itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def ended(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True

    def wait(self) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _start_init(config: HostConfig, close_inherited: Callable[[], None]) -> NoReturn:
    try:
        _run_init(config, close_inherited)
    finally:
        os._exit(0)


def _run_init(config: HostConfig, close_inherited: Callable[[], None]) -> None:
    from chroniker.processes.warden import become_subreaper

    close_inherited()
    os.setsid()
    become_subreaper()
    log = os.open(
        config.directory / f"{config.name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    configure(config)
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ticks: set[int] = set()
    next_tick = time.monotonic()
    signalled = False
    while not ending or ticks:
        for pid in _reap():
            ticks.discard(pid)
        now = time.monotonic()
        if ending and not signalled:
            signalled = True
            for pid in ticks:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        if not ending and now >= next_tick:
            next_tick = max(next_tick + config.tick_seconds, now)
            if len(ticks) < (1 if config.server else _MAX_TICKS):
                ticks.add(_fork_tick(config))
        time.sleep(_POLL_SECONDS)


def _reap() -> Iterator[int]:
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            yield pid


def configure(config: HostConfig) -> None:
    """Make this process and its children the host."""
    from django.conf import settings

    from tests.faults.site import connection

    os.environ["CHRONIKER_FAULTS_HOST"] = config.name
    settings.CHRONIKER_HOSTNAME = config.name
    settings.CHRONIKER_RUNTIME_DIR = str(config.runtime_dir)
    if config.port is not None:
        connection.settings_dict["HOST"] = "127.0.0.1"
        connection.settings_dict["PORT"] = str(config.port)
    if DEPLOYMENT is Deployment.POOL:  # not in the injector, which forks as it likes
        connection.settings_dict["OPTIONS"]["pool"] = True


def _fork_tick(config: HostConfig) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = be_tick(config)
    finally:
        os._exit(code)


def be_tick(config: HostConfig, **options: Any) -> int:
    """Run one tick or an endless cronserver in its own process; the exit code."""
    from django.db import connections

    from chroniker.engine.scheduler import Scheduler
    from chroniker.exceptions import DatabaseNotReady
    from tests.faults.site import note_left_setting
    from tests.faults.stalls import StallRecorder

    journal = Journal(config.directory)
    try:
        _set_clock(config.clock_offset)
        if config.prepare is not None:
            config.prepare()
        every = config.tick_seconds if config.server else None
        stalls = StallRecorder(journal, config.name)
        Scheduler(every=every, on_pass=stalls.note_pass, **options).run()
        note_left_setting(partial(journal.write, host=config.name), "a tick")
    except DatabaseNotReady as error:
        logging.getLogger("chroniker.faults").info("not ready: %s", error)
        return 1
    except BaseException as error:
        journal.write("tick_failed", error=repr(error), host=config.name)
        logging.getLogger("chroniker.faults").exception("a tick failed")
        return 1
    connections.close_all()
    return 0


def _set_clock(offset: float) -> None:
    """Shift the clock of this process and its forks by ``offset`` seconds; it can be stepped later.

    SIGUSR2 steps the clock by an hour, as an operator or NTP would.
    """
    import datetime

    import time_machine

    def travel(seconds: float) -> None:
        now = datetime.datetime.now(datetime.UTC)
        time_machine.travel(now + datetime.timedelta(seconds=seconds), tick=True).start()

    if offset:
        travel(offset)
    signal.signal(signal.SIGUSR2, lambda *_: travel(3600))
