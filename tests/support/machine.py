"""The machine that the tests run on: its programs, servers, ports and locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.settings import SCRATCH

REPO = Path(__file__).resolve().parents[2]

PROGRAMS = {
    "cron": ("cron",),
    "prometheus": ("prometheus", "promtool"),
    "alertmanager": ("prometheus-alertmanager", "amtool"),
    "chromium": ("chromium",),
}

SERVERS = {
    "postgres": (os.environ.get("PGHOST", "127.0.0.1"), int(os.environ.get("PGPORT", "5432"))),
    "mariadb": (
        os.environ.get("MYSQL_HOST", "127.0.0.1"),
        int(os.environ.get("MYSQL_PORT", "3306")),
    ),
    "redis": ("127.0.0.1", 6379),
    "rabbitmq": ("127.0.0.1", 5672),
}

_SBIN = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))


def find_program(name: str) -> str | None:
    """The full path of a program; also searched in the sbin directories."""
    return shutil.which(name, path=_SBIN)


def available(name: str) -> bool:
    """Whether the machine has a program, a responding server, or ``root``."""
    if name == "root":
        return os.getuid() == 0
    if name in SERVERS:
        with contextlib.suppress(OSError), socket.create_connection(SERVERS[name], timeout=2):
            return True
        return False
    return all(find_program(binary) for binary in PROGRAMS.get(name, (name,)))


def require(*names: str) -> None:
    """Skip the test if the machine lacks something; fail it with CI=true."""
    lacking = [name for name in names if not available(name)]
    if lacking:
        reason = f"not on this machine: {', '.join(lacking)} (scripts/services)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def free_port() -> int:
    """A TCP port of loopback on which nothing listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def machine_lock(name: str) -> Iterator[None]:
    """Hold a lock that only one test on this machine can have; ``name`` says what for."""
    with (SCRATCH / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_promtool(
    *arguments: str | Path, cwd: Path | None = None, text: str | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run Prometheus's ``promtool``; ``text`` is its standard input."""
    program = find_program("promtool")
    assert program is not None
    return subprocess.run(
        [program, *map(str, arguments)],
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
