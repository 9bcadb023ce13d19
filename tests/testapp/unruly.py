"""A probe that does to its process what no probe should do."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from chroniker_monitors.probes import BaseProbe, Reading, param, register_probe


class Nasty(BaseException):
    """Not an ``Exception``."""


def _hang() -> None:
    """Hang where no signal interrupts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL})
    time.sleep(600)


def _raise(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def _use_memory() -> None:
    """What the kernel does to a process that uses too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def _grow() -> None:
    _kept.append(b"x" * 80 * 2**20)


_kept: list[bytes] = []


def _start_thread() -> None:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def _close_files() -> None:
    os.closerange(3, 256)


def _fork() -> None:
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)


def _daemonize() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()


def _change_language() -> None:
    from django.utils import translation

    translation.activate("de")


def _open_transaction() -> None:
    from django.db import connection

    connection.set_autocommit(False)


def _write() -> None:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    subprocess.run(["echo", "from a program"], check=True)
    logging.getLogger("tests.unruly").warning("to the log")


ACTIONS: dict[str, Callable[[], object]] = {
    "hang": _hang,
    "wait": lambda: time.sleep(600),
    "raise_base_exception": _raise(Nasty("nasty")),
    "raise_keyboard_interrupt": _raise(KeyboardInterrupt()),
    "raise_system_exit": _raise(SystemExit(3)),
    "raise_memory_error": _raise(MemoryError()),
    "exit": lambda: os._exit(0),
    "exit_with_code": lambda: os._exit(7),
    "be_killed": _use_memory,
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "close_files": _close_files,
    "kill_guard": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "kill_group": lambda: os.killpg(0, signal.SIGKILL),
    # From here on the probe measures its value, and leaves something behind.
    "start_thread": _start_thread,
    "change_directory": lambda: os.chdir("/proc"),
    "change_umask": lambda: os.umask(0o137),
    "change_signals": lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN),
    "block_signals": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM}),
    "change_environment": lambda: os.environ.update(TZ="Asia/Tokyo", UNRULY="yes"),
    "change_socket_timeout": lambda: socket.setdefaulttimeout(0.001),
    "change_stdout": lambda: setattr(sys, "stdout", None),
    "change_language": _change_language,
    "open_transaction": _open_transaction,
    "fork": _fork,
    "daemonize": _daemonize,
    "grow": _grow,
    "write": _write,
}
LEAVES_SOMETHING = tuple(ACTIONS)[list(ACTIONS).index("start_thread") :]


def describe_process() -> str:
    """What of the process the neighbours would notice."""
    umask = os.umask(0o077)
    os.umask(umask)
    return " ".join(
        str(fact)
        for fact in (
            os.getcwd(), oct(umask), signal.getsignal(signal.SIGALRM) is signal.SIG_DFL,
            len(signal.pthread_sigmask(signal.SIG_BLOCK, ())), os.environ.get("UNRULY", "-"),
            threading.active_count(), socket.getdefaulttimeout(), sys.stdout is None, len(_kept),
        )
    )  # fmt: skip


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class Unruly(BaseProbe):
    """Does something to its process before it returns 1; without an action, describes it."""

    kind: ClassVar[str] = "test_unruly"
    label: ClassVar[str] = "Unruly"
    description: ClassVar[str] = "Does something to its process."
    unit: ClassVar[str] = "number"
    action: str = param("", label="action")
    nap_seconds: float = param(0.0, label="seconds that it takes")

    def run(self) -> Reading:
        time.sleep(self.nap_seconds)
        if self.action:
            ACTIONS[self.action]()
            return Reading(1, "did it")
        # Inside the time limit SIGALRM has a handler.
        return Reading(0, describe_process())
