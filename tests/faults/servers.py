"""A PostgreSQL server for the experiments, which they may crash and overload.

If its programs are not installed, the site's server is used, which is neither crashed nor
overloaded.
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
}


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
        self._call("initdb", "-D", f"{directory}/data", "-A", "trust", "-U", "postgres", "-N")

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

    def start(self) -> None:
        """Start it as a child of init: this process kills its orphans."""
        was = ctypes.c_int()
        libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        try:
            self._start()
        finally:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, was.value, 0, 0, 0)

    def _start(self) -> None:
        options = {**_OPTIONS, "port": str(self.port)}
        words = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        self._call("pg_ctl", "-D", f"{self.directory}/data", "-w", "-o", words, "-l",
                   f"{self.directory}/server.log", "start")  # fmt: skip

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; ``immediate`` is like a crash."""
        self._call("pg_ctl", "-D", f"{self.directory}/data", "-w", "-m", mode, "stop")


current: Postgres | None = None
"""The server of this process, if it has one."""


@contextmanager
def own_postgres() -> Iterator[None]:
    """Set the environment to a server of this process for this block."""
    global current
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [
        path for path in [shutil.which("initdb")] if path
    ]
    if not found:
        yield
        return
    where = _SHM if os.access(_SHM, os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="faults-pg-", dir=where))
    try:
        server = Postgres(directory, Path(found[-1]).parent)
        server.start()
        current = server
        os.environ.update(
            PGHOST="127.0.0.1", PGPORT=str(server.port), PGUSER="postgres", PGPASSWORD="-"
        )
        try:
            yield
        finally:
            current = None
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
