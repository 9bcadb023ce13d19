"""The demo site: build it, start it, stop it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

from .processes import DemoError, ProcessGroup

__all__ = ["PROJECT", "DemoError", "DemoSite", "available_port", "default_directory"]

PROJECT = Path(__file__).resolve().parent
STARTUP_SECONDS = 60


def default_directory() -> Path:
    return Path(os.environ.get("DEMO_DIR") or PROJECT.parent / "var" / "demo").resolve()


class DemoSite:
    """A context manager that ends every process that it started."""

    password = "bookshop"

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = available_port(port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes = ProcessGroup(
            PROJECT,
            {
                "DEMO_DIR": str(directory),
                "DEMO_URL": self.url,
                "DJANGO_SETTINGS_MODULE": "bookshop_site.settings",
                "PYTHONUNBUFFERED": "1",
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A second Ctrl-C would leave processes behind. The following has a time limit.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self.processes.close()

    def seed(self, *options: str) -> None:
        """Create the database, the sales file and the jobs, if they are missing."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.manage("seed_demo", "--password", self.password, *options)

    def manage(self, *arguments: str) -> None:
        """Run a management command, and wait for its end."""
        ended = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.processes.env,
            stdin=subprocess.DEVNULL,
        )
        if ended.returncode:
            raise DemoError("the site could not be built. The error is printed above.")

    def start_web(self) -> None:
        """Start gunicorn, or Django's server if gunicorn is missing, and wait until it responds."""
        address = f"127.0.0.1:{self.port}"
        env: dict[str, str] = {}
        if importlib.util.find_spec("gunicorn"):
            # The workers share these files. Files of an earlier start must be removed.
            metrics = self.directory / "prometheus"
            shutil.rmtree(metrics, ignore_errors=True)
            metrics.mkdir()
            env = {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
            command = ["-m", "gunicorn", "--bind", address, "--log-level", "warning"]
            command += ["--config", "gunicorn_conf.py", "bookshop_site.wsgi"]
        else:
            command = ["manage.py", "runserver", "--noreload", "--insecure", address]
        self.processes.start_python("site", command, **env)
        deadline = time.monotonic() + STARTUP_SECONDS
        while not self._is_responding():
            self.processes.check()
            if time.monotonic() > deadline:
                raise DemoError(f"{self.url} did not respond within {STARTUP_SECONDS} s.")
            time.sleep(0.1)

    def start_scheduler(self, seconds: int) -> None:
        """Start ticks in a loop; a real site uses cron."""
        self.processes.start_python("cronserver", ["manage.py", "cronserver", str(seconds)])

    def start_broker(self) -> None:
        """Start Redis for Celery; its messages are in the demo's directory."""
        program = shutil.which("redis-server")
        if program is None or importlib.util.find_spec("celery") is None:
            raise DemoError("this needs redis-server and Celery; run `make services venv`.")
        port = _free_port()
        self.processes.env["DEMO_BROKER"] = f"redis://127.0.0.1:{port}/0"
        self.directory.mkdir(parents=True, exist_ok=True)
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        self.processes.start_program("redis", [program, *options], self.directory / "redis.log")

    def start_workers(self, number: int) -> None:
        """Start Celery workers that execute the jobs."""
        options = ["--queues", "chroniker", "--concurrency", "2", "--prefetch-multiplier", "1"]
        for each in range(1, number + 1):
            name = f"worker{each}@bookshop"
            self.processes.start_python(
                name,
                ["-m", "celery", "-A", "bookshop_site", "--quiet", "worker", "--hostname", name,
                 "--loglevel", "WARNING", *options],
            )  # fmt: skip

    def start_till(self, seconds: float) -> None:
        """Start a program without Django that pings its heartbeat monitor."""
        url = (self.directory / "till-url").read_text()
        self.processes.start_python("till", ["till.py", url, str(seconds)])

    def crontab_line(self) -> str:
        """Return the crontab line for a real installation."""
        chroniker = Path(sys.executable).with_name("chroniker")
        elsewhere = f"DEMO_DIR={self.directory} " if os.environ.get("DEMO_DIR") else ""
        return f"* * * * * {elsewhere}{chroniker} -s bookshop_site.settings -p {PROJECT}"

    def _is_responding(self) -> bool:
        try:
            with urlopen(f"{self.url}/admin/login/", timeout=5) as response:
                return bool(response.status == 200)
        except (URLError, OSError):
            return False


def available_port(port: int) -> int:
    """Return this port of the loopback interface, or a free one if it is in use or 0."""
    return port if port and _is_free(port) else _free_port()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
