"""A PgBouncer in front of the test database."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from django.db import connections

from tests.support.machine import find_program, free_port, require
from tests.support.processes import wait_until

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
logfile = {log}
"""


@contextlib.contextmanager
def run_pgbouncer(mode: str) -> Iterator[dict[str, Any]]:
    """``mode``: "transaction" or "session". Gives what to change in DATABASES to connect to it."""
    require("pgbouncer", "root")
    site = connections["default"].settings_dict
    listen = free_port()
    owner = pwd.getpwnam("postgres")
    # Not pytest's directory: another user has to get there.
    directory = Path(tempfile.mkdtemp(prefix="chroniker-pgbouncer-"))
    try:
        (directory / "ini").write_text(
            _CONFIG.format(
                **{key.lower(): site[key] for key in ("NAME", "HOST", "PORT", "USER")},
                password=f" password={site['PASSWORD']}" if site["PASSWORD"] else "",
                listen=listen,
                mode=mode,
                size=POOL_SIZE,
                log=directory / "log",
            )
        )
        for path in (directory, directory / "ini"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        process = subprocess.Popen(
            [str(find_program("pgbouncer")), "-q", str(directory / "ini")],
            user=owner.pw_uid,
            group=owner.pw_gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            address = {"HOST": "127.0.0.1", "PORT": str(listen)}
            wait_until(lambda: _answers(listen), timeout=20, interval=0.05)
            yield address
        finally:
            process.terminate()
            process.wait(20)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def connect(port: int | str) -> psycopg.Connection[tuple[Any, ...]]:
    site = connections["default"].settings_dict
    return psycopg.connect(
        host="127.0.0.1", port=int(port), dbname=site["NAME"], user=site["USER"],
        prepare_threshold=None,
    )  # fmt: skip


def _answers(port: int) -> bool:
    try:
        connect(port).close()
    except psycopg.OperationalError:
        return False
    return True


def server_settings(port: int | str, name: str) -> list[str]:
    """The value of a setting on every server connection of the pool, all held at one time."""
    clients = [connect(port) for _ in range(POOL_SIZE)]
    try:
        query = f"SELECT current_setting('{name}')"
        found = [client.execute(query).fetchone() for client in clients]
        return [row[0] for row in found if row]
    finally:
        for client in clients:
            client.close()
