"""What a process is made of that code can change and leave behind for what runs after it."""

from __future__ import annotations

import locale
import os
import re
import resource
import signal
import socket
import sys
import warnings
from dataclasses import dataclass, fields

_LIMITS = (
    resource.RLIMIT_AS, resource.RLIMIT_CORE, resource.RLIMIT_CPU, resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_STACK,
)  # fmt: skip
_HANDLERS = (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)
"""Signals whose handler in Python is compared, too. Of the others the kernel says what it does."""
_KERNEL = re.compile(
    rb"^(?:Umask|Uid|Gid|Groups|SigBlk|SigIgn|NoNewPrivs|Seccomp):\s*(.*)$", re.MULTILINE
)
_CAUGHT = re.compile(rb"^SigCgt:\s*(\w+)$", re.MULTILINE)
_OF_LIBC = 0b11 << 31
"""Signals 32 and 33: the C library installs handlers for them with the first thread."""
_THREADS = re.compile(rb"^Threads:\s*(\d+)$", re.MULTILINE)
_MEMORY = re.compile(rb"^RssAnon:\s*(\d+) kB$", re.MULTILINE)
MAX_GROWTH_BYTES = 64 * 2**20
"""How much more memory than at first a process may use before it counts as changed."""
MAX_NEW_FILES = 32
"""How many more open files it may have; some are connections that the next item uses."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """The state of this process at one moment, as far as it can be compared cheaply."""

    kernel: tuple[bytes, ...]
    """Umask, users, groups, blocked and ignored signals: proc(5), ``status``."""
    caught: int
    """The signals that have a handler, as bits."""
    handlers: tuple[object, ...]
    directory: str
    timer: bool
    limits: tuple[tuple[int, int], ...]
    priority: int
    threads: int
    streams: tuple[int, int, int]
    locale: str
    socket_timeout: float | None
    path: tuple[str, ...]
    filters: int
    tracing: tuple[bool, bool]
    language: str
    timezone: str

    @classmethod
    def take(cls) -> ProcessState:
        """Return the current state."""
        from django.utils import timezone, translation

        status = _read_status()
        return cls(
            kernel=tuple(_KERNEL.findall(status)),
            caught=_find(_CAUGHT, status, base=16) & ~_OF_LIBC,
            handlers=tuple(map(signal.getsignal, _HANDLERS)),
            directory=_directory(),
            timer=signal.getitimer(signal.ITIMER_REAL)[0] > 0,
            limits=tuple(map(resource.getrlimit, _LIMITS)),
            priority=os.getpriority(os.PRIO_PROCESS, 0),
            threads=_find(_THREADS, status),
            streams=(id(sys.stdin), id(sys.stdout), id(sys.stderr)),
            locale=locale.setlocale(locale.LC_ALL),
            socket_timeout=socket.getdefaulttimeout(),
            path=tuple(sys.path),
            filters=len(warnings.filters),
            tracing=(sys.gettrace() is not None, sys.getprofile() is not None),
            language=translation.get_language() or "",
            timezone=timezone.get_current_timezone_name(),
        )

    def difference(self, other: ProcessState) -> str:
        """Return the name of the first part that differs; empty if none does."""
        for field in fields(self):
            if getattr(self, field.name) != getattr(other, field.name):
                return field.name
        return ""


def environment() -> dict[bytes, bytes]:
    """Return a copy of the environment. That of ``os.environb`` encodes each name again."""
    return dict(vars(os.environ)["_data"])


def count_threads() -> int:
    """Return the number of threads of this process, including those that Python does not know."""
    return _find(_THREADS, _read_status())


def private_bytes() -> int:
    """Return the memory of this process that is not mapped from a file."""
    return _find(_MEMORY, _read_status()) * 1024


def count_files() -> int:
    """Return the number of open files of this process."""
    return len(os.listdir("/proc/self/fd"))


def _read_status() -> bytes:
    fd = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 8192)
    finally:
        os.close(fd)


def _find(pattern: re.Pattern[bytes], status: bytes, base: int = 10) -> int:
    found = pattern.search(status)
    return int(found[1], base) if found else 0


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return ""
