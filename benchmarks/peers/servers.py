"""A PostgreSQL and a Redis server for the comparison alone, with their default configuration.

Some of the schedulers open more connections than a server has, which would harm other databases.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SITE = Path(__file__).resolve().parent / "site"
_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Servers:
    """Where they are."""

    folder: Path
    postgres_port: int
    redis_port: int
    environ: dict[str, str] = field(default_factory=dict)

    def dsn(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.postgres_port}/{database}"

    def recreate_database(self, name: str) -> None:
        """Drop a database, if it exists, and create it."""
        import psycopg

        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name}")

    @property
    def log(self) -> Path:
        """The file that jobs write to."""
        return self.folder / "work.log"


@contextlib.contextmanager
def running() -> Iterator[Servers]:
    """Start both servers; stop them and delete their data at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="chroniker-peers-") as name,
        contextlib.ExitStack() as s,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        servers = Servers(folder, _free_port(), _free_port())
        s.enter_context(_postgres(servers))
        s.enter_context(_redis(servers))
        servers.environ.update(
            {
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "LANG": "C.UTF-8",
                "PYTHONPATH": str(SITE),
                "PYTHONWARNINGS": "ignore",
                "PEERS_DB_PORT": str(servers.postgres_port),
                "PEERS_REDIS_PORT": str(servers.redis_port),
                "PEERS_LOG": str(servers.log),
                "PEERS_RUNTIME_DIR": str(folder / "run"),
            }
        )
        yield servers


@contextlib.contextmanager
def _postgres(servers: Servers) -> Iterator[None]:
    program = shutil.which("postgres") or _newest_installed_postgres()
    data = servers.folder / "postgres"
    data.mkdir()
    user: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(data, "postgres")
        user = ["runuser", "-u", "postgres", "--"]
    initdb = str(Path(program).with_name("initdb"))
    subprocess.run(
        [*user, initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, cwd=data,
    )  # fmt: skip
    command = [*user, program, "-D", str(data), "-p", str(servers.postgres_port), "-k", str(data)]
    with _server(command, servers.postgres_port, data):
        yield


def _newest_installed_postgres() -> str:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        raise SystemExit("bench-peers needs PostgreSQL: run `make services`.")
    return str(found[-1])


@contextlib.contextmanager
def _redis(servers: Servers) -> Iterator[None]:
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("bench-peers needs Redis: run `make services`.")
    command = [program, "--port", str(servers.redis_port), "--save", "", "--bind", "127.0.0.1"]
    with _server(command, servers.redis_port, servers.folder):
        yield


@contextlib.contextmanager
def _server(command: list[str], port: int, folder: Path) -> Iterator[None]:
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} does not start.")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
