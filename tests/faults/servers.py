"""The database servers of an experiment, which it may crash and overload.

If the programs of PostgreSQL are not installed, the site's server is used, which is neither
crashed nor overloaded.
"""

from __future__ import annotations

import ctypes
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.deployment import REPLICA_LAG_SECONDS, Deployment

# Nothing of the tests is imported here: their settings are read after the server has started.
_SHM = "/dev/shm"
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
libc = ctypes.CDLL(None)

_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "fsync": "off",  # a crashed server loses nothing by it, and the machine does not crash
    "shared_buffers": "32MB",
    "logging_collector": "off",
    "wal_retrieve_retry_interval": "500ms",
}


@contextmanager
def as_children_of_init() -> Iterator[None]:
    """Daemons that are started in this block are not of this process, which kills its orphans."""
    was = ctypes.c_int()
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, was.value, 0, 0, 0)


class Postgres:
    """A cluster in memory; as the user ``postgres`` if this is root."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self.directory = directory
        self.programs = programs
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        if os.getuid() == 0:
            shutil.chown(directory, "postgres")

    def create(self) -> None:
        """Create an empty cluster."""
        self._call("initdb", "-D", f"{self.directory}/data", "-A", "trust", "-U", "postgres", "-N",
                   "-E", "UTF8")  # fmt: skip

    def follow(self, primary: Postgres, lag_seconds: float) -> None:
        """Become a streaming replica that applies each transaction so much later."""
        self._call("pg_basebackup", "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres",
                   "-D", f"{self.directory}/data", "-R", "-N", "--checkpoint=fast")  # fmt: skip
        with (self.directory / "data" / "postgresql.auto.conf").open("a") as file:
            file.write(f"recovery_min_apply_delay = '{int(lag_seconds * 1000)}ms'\n")

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            user=self.user if os.getuid() == 0 else None,
            cwd=self.directory,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=(self.directory / "log").open("ab"),
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise RuntimeError((self.directory / "log").read_text()[-2000:])

    def start(self, *, wait: bool = True) -> None:
        """Start it; ``wait`` until it accepts connections."""
        options = {**_OPTIONS, "port": str(self.port)}
        words = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        with as_children_of_init():
            self._call("pg_ctl", "-D", f"{self.directory}/data", "-w" if wait else "-W", "-o",
                       words, "-l", f"{self.directory}/server.log", "start")  # fmt: skip

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; ``immediate`` is like a crash."""
        self._call("pg_ctl", "-D", f"{self.directory}/data", "-w", "-m", mode, "stop")


current: Postgres | None = None
"""The server of this process, if it has one."""
replica: Postgres | None = None
"""Its replica, if it has one."""


@contextmanager
def own_servers(deployment: Deployment) -> Iterator[None]:
    """Set the environment to the servers of this process for this block."""
    global current, replica
    programs = _programs()
    if programs is None:
        if deployment is Deployment.REPLICA:
            raise RuntimeError("A replica needs the programs of PostgreSQL (initdb).")
        yield
        return
    with _server(programs) as server:
        server.create()
        server.start()
        current = server
        os.environ.update(
            PGHOST="127.0.0.1", PGPORT=str(server.port), PGUSER="postgres", PGPASSWORD="-"
        )
        try:
            if deployment is not Deployment.REPLICA:
                yield
                return
            with _server(programs) as second:
                second.follow(server, REPLICA_LAG_SECONDS)
                second.start()
                replica = second
                os.environ["CHRONIKER_FAULTS_REPLICA_PORT"] = str(second.port)
                yield
        finally:
            current = replica = None


@contextmanager
def _server(programs: Path) -> Iterator[Postgres]:
    where = _SHM if os.access(_SHM, os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="faults-pg-", dir=where))
    try:
        server = Postgres(directory, programs)
        try:
            yield server
        finally:
            if (directory / "data" / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _programs() -> Path | None:
    """The directory of PostgreSQL's programs."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [
        path for path in [shutil.which("initdb")] if path
    ]
    return Path(found[-1]).parent if found else None
