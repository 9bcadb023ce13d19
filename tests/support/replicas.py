"""Temporary database servers: a primary and its replica."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from chroniker_monitors.checking.measurement import measure
from chroniker_monitors.probes import build_probe
from tests.support.machine import find_program, free_port, require
from tests.support.processes import wait_until

START_SECONDS = 60.0
"""Seconds that a server may take to start, on a machine that has other things to do."""


@dataclass
class ReplicatedPair:
    """A primary and its replica; aliases of DATABASES."""

    primary: str
    replica: str
    servers: dict[str, subprocess.Popen[bytes]]


@contextlib.contextmanager
def aliases(engine: str, user: str, name: str, ports: dict[str, int]) -> Iterator[None]:
    """Servers on loopback as databases of the site."""
    for alias, port in ports.items():
        settings = connections.configure_settings(
            {
                alias: {
                    "ENGINE": f"django.db.backends.{engine}",
                    "NAME": name,
                    "USER": user,
                    "HOST": "127.0.0.1",
                    "PORT": str(port),
                },
                "default": {},
            }
        )[alias]
        connections.settings[alias] = settings
    try:
        yield
    finally:
        for alias in ports:
            with contextlib.suppress(Exception):
                connections[alias].close()
            with contextlib.suppress(AttributeError):
                del connections[alias]
            del connections.settings[alias]


def connect(alias: str) -> BaseDatabaseWrapper:
    """A connection that the caller has to close."""
    connection: BaseDatabaseWrapper = connections[alias].copy()
    connection.connect()
    return connection


def run(alias: str, *statements: str) -> Any:
    """Run statements on a server; the first row of the last one."""
    connection = connect(alias)
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()


def answers(alias: str) -> bool:
    """Whether a server accepts connections."""
    return not measure(build_probe("database", {"alias": alias}), timeout=5).error


@contextlib.contextmanager
def _directory(owner: str) -> Iterator[Path]:
    # Not tmp_path of pytest: another user has to reach it.
    path = Path(tempfile.mkdtemp(prefix="chroniker-replica-"))
    shutil.chown(path, owner, None)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _as(owner: str) -> dict[str, Any]:
    entry = pwd.getpwnam(owner)
    return {
        "user": entry.pw_uid,
        "group": entry.pw_gid,
        "extra_groups": [],
        "env": {**os.environ, "HOME": entry.pw_dir, "LC_ALL": "C.UTF-8"},
    }


def _run_as(owner: str, directory: Path, *argv: str | Path) -> None:
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        **_as(owner),
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}\n{done.stderr}"


@contextlib.contextmanager
def _server(owner: str, directory: Path, *argv: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **_as(owner),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for(alias: str, directory: Path) -> None:
    try:
        wait_until(lambda: answers(alias), timeout=START_SECONDS, interval=0.1)
    except AssertionError:
        pytest.fail(f"{alias} does not start:\n{(directory / 'log').read_text()[-3000:]}")


# --- PostgreSQL -----------------------------------------------------------------------------


def _postgres_bin() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    where = find_program("initdb")
    return Path(where).parent if where else Path()


@contextlib.contextmanager
def postgres_pair() -> Iterator[ReplicatedPair]:
    """A primary by initdb and its replica by pg_basebackup."""
    require("root")
    binaries = _postgres_bin()
    if not binaries.parts:
        require("initdb")
    ports = {"pg_primary": free_port(), "pg_replica": free_port()}
    fast = ("-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "listen_addresses=127.0.0.1",
            "-c", "unix_socket_directories=", "-c", "max_wal_senders=4")  # fmt: skip

    with (
        _directory("postgres") as directory,
        aliases("postgresql", "postgres", "postgres", ports),
        contextlib.ExitStack() as stack,
    ):
        first, second = directory / "first", directory / "second"
        _run_as("postgres", directory, binaries / "initdb", "-D", first, "-A", "trust",
            "-U", "postgres", "--no-sync")  # fmt: skip
        servers = {}

        def start(alias: str, data: Path) -> None:
            servers[alias] = stack.enter_context(
                _server(
                    "postgres",
                    directory,
                    binaries / "postgres",
                    "-D",
                    data,
                    "-p",
                    str(ports[alias]),
                    *fast,
                )
            )
            _wait_for(alias, directory)

        start("pg_primary", first)
        _run_as("postgres", directory, binaries / "pg_basebackup", "-h", "127.0.0.1", "-p",
            str(ports["pg_primary"]), "-U", "postgres", "-D", second, "-R", "--no-sync",
            "--checkpoint=fast")  # fmt: skip
        start("pg_replica", second)
        yield ReplicatedPair("pg_primary", "pg_replica", servers)


# --- MariaDB --------------------------------------------------------------------------------


@contextlib.contextmanager
def mariadb_pair() -> Iterator[ReplicatedPair]:
    """Two servers by mariadb-install-db, one a GTID replica of the other."""
    require("root", "mariadbd", "mariadb-install-db")
    pytest.importorskip("MySQLdb")
    ports = {"maria_primary": free_port(), "maria_replica": free_port()}
    with (
        _directory("mysql") as directory,
        aliases("mysql", "tester", "mysql", ports),
        contextlib.ExitStack() as stack,
    ):
        first, second = directory / "first", directory / "second"
        _run_as("mysql", directory, "mariadb-install-db", "--no-defaults", f"--datadir={first}",
            "--auth-root-authentication-method=normal", "--skip-test-db")  # fmt: skip
        init = directory / "init.sql"
        init.write_text(
            "CREATE USER IF NOT EXISTS tester@'127.0.0.1';\n"
            "GRANT ALL ON *.* TO tester@'127.0.0.1';\n"
        )
        init.chmod(0o644)
        shutil.copytree(first, second)
        for path in [second, *second.rglob("*")]:
            shutil.chown(path, "mysql", "mysql")
        servers = {}
        for number, (alias, data) in enumerate(
            {"maria_primary": first, "maria_replica": second}.items(), 1
        ):
            servers[alias] = stack.enter_context(
                _server(
                    "mysql",
                    directory,
                    find_program("mariadbd") or "mariadbd",
                    "--no-defaults",
                    f"--datadir={data}",
                    f"--port={ports[alias]}",
                    "--bind-address=127.0.0.1",
                    f"--socket={directory}/{number}.sock",
                    f"--server-id={number}",
                    f"--pid-file={directory}/{number}.pid",
                    "--log-bin=binlog",
                    f"--init-file={init}",
                    "--innodb-flush-log-at-trx-commit=0",
                    "--innodb-buffer-pool-size=32M",
                    "--skip-log-error",
                )
            )
            _wait_for(alias, directory)
        run(
            "maria_replica",
            f"CHANGE MASTER TO master_host='127.0.0.1', master_port={ports['maria_primary']}, "
            "master_user='tester', master_use_gtid=no, master_log_file='binlog.000001', "
            "master_log_pos=4, master_connect_retry=1",
        )
        yield ReplicatedPair("maria_primary", "maria_replica", servers)
