"""A PgBouncer in front of the test database."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from django.db import connections

from tests.support.machine import find_program, free_port, require
from tests.support.processes import is_alive, wait_until

POOL_SIZE = 3

_CONFIG = """\
[databases]
{name} = host={host} port={port} dbname={name} user={user}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 500
server_login_retry = 0.5
ignore_startup_parameters = extra_float_digits
logfile = {log}
pidfile = {pid}
"""


class PgBouncer:
    """A daemon, which can be killed and started again.

    Parameters:
        site: HOST, PORT, USER, PASSWORD and NAME of the database, as in ``DATABASES``
        mode: "transaction" or "session"
        size: how many connections it has to the server
    """

    def __init__(self, site: Mapping[str, Any], mode: str, size: int = POOL_SIZE) -> None:
        self.site = site
        self.size = size
        self.port = free_port()
        self._owner = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        # Not pytest's directory: another user has to get there.
        self.directory = Path(tempfile.mkdtemp(prefix="chroniker-pgbouncer-"))
        (self.directory / "ini").write_text(
            _CONFIG.format(
                **{key.lower(): site[key] for key in ("NAME", "HOST", "PORT", "USER")},
                password=f" password={site['PASSWORD']}" if site["PASSWORD"] else "",
                listen=self.port,
                mode=mode,
                size=size,
                log=self.directory / "log",
                pid=self.directory / "pid",
            )
        )
        if self._owner:
            for path in (self.directory, self.directory / "ini"):
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self._pid_file.unlink(missing_ok=True)
        who: dict[str, Any] = {}
        if self._owner:
            who = {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}
        subprocess.run(
            [str(find_program("pgbouncer")), "-q", "-d", str(self.directory / "ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            **who,
        )
        try:
            wait_until(self._answers, timeout=20, interval=0.05)
        except AssertionError as error:
            log = (self.directory / "log").read_text()[-2000:]
            raise AssertionError(f"PgBouncer does not answer:\n{log}") from error

    def kill(self) -> None:
        """End it at once; nothing happens if it has ended."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(self._pid_file.read_text())
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid), timeout=20)

    def remove(self) -> None:
        """End it, and remove its files."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection through it."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=self.site["NAME"],
            user=self.site["USER"],
            connect_timeout=10,
            prepare_threshold=None,
        )

    def server_settings(self, name: str) -> list[str]:
        """The value of a setting on every connection to the server, all held at one time."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(self.connect()) for _ in range(self.size)]
            query = f"SELECT current_setting('{name}')"
            found = [client.execute(query).fetchone() for client in clients]
            return [row[0] for row in found if row]

    @property
    def _pid_file(self) -> Path:
        return self.directory / "pid"

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


@contextlib.contextmanager
def run_pgbouncer(mode: str) -> Iterator[PgBouncer]:
    """A PgBouncer in front of the test database; ``mode``: "transaction" or "session"."""
    require("pgbouncer", "root")
    bouncer = PgBouncer(connections["default"].settings_dict, mode)
    try:
        bouncer.start()
        yield bouncer
    finally:
        bouncer.remove()
