"""The processes of the demo site: build, start, wait, stop."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

import psutil

PROJECT = Path(__file__).resolve().parent
STARTUP_SECONDS = 60
PR_SET_PDEATHSIG = 1
MARKER_VARIABLE = "DEMO_STARTED_BY"
"""Environment variable that all processes of a demo site inherit."""
_libc = ctypes.CDLL(None)


class DemoError(Exception):
    """The demo cannot continue; the message says why."""


def default_directory() -> Path:
    return Path(os.environ.get("DEMO_DIR") or PROJECT.parent / "var" / "demo").resolve()


class DemoSite:
    """A context manager that ends every process that it started."""

    password = "bookshop"

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = available_port(port)
        self.url = f"http://127.0.0.1:{self.port}"
        self._marker = uuid.uuid4().hex
        self.env = os.environ | {
            MARKER_VARIABLE: self._marker,
            "DEMO_DIR": str(directory),
            "DEMO_URL": self.url,
            "DJANGO_SETTINGS_MODULE": "bookshop_site.settings",
            "PYTHONUNBUFFERED": "1",
        }
        self._children: dict[str, subprocess.Popen[bytes]] = {}

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
        for name in reversed(list(self._children)):
            self.stop(name)
        for process in self.processes():
            process.kill()

    def seed(self, *options: str) -> None:
        """Create the database, the sales file and the jobs, if they are missing."""
        self.directory.mkdir(parents=True, exist_ok=True)
        ended = subprocess.run(
            [sys.executable, "manage.py", "seed_demo", "--password", self.password, *options],
            cwd=PROJECT,
            env=self.env,
            stdin=subprocess.DEVNULL,
        )
        if ended.returncode:
            raise DemoError("the site could not be built. The error is printed above.")

    def start_web(self) -> None:
        """Start gunicorn, or Django's server if gunicorn is missing, and wait until it responds."""
        address = f"127.0.0.1:{self.port}"
        if importlib.util.find_spec("gunicorn"):
            # The workers share these files. Files of an earlier start must be removed.
            metrics = self.directory / "prometheus"
            shutil.rmtree(metrics, ignore_errors=True)
            metrics.mkdir()
            self.env["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
            command = ["-m", "gunicorn", "--bind", address, "--log-level", "warning"]
            command += ["--config", "gunicorn_conf.py", "bookshop_site.wsgi"]
        else:
            command = ["manage.py", "runserver", "--noreload", "--insecure", address]
        self._start("site", command)
        self.env.pop("PROMETHEUS_MULTIPROC_DIR", None)
        deadline = time.monotonic() + STARTUP_SECONDS
        while not self._is_responding():
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"{self.url} did not respond within {STARTUP_SECONDS} s.")
            time.sleep(0.1)

    def start_scheduler(self, seconds: int) -> None:
        """Start ticks in a loop; a real site uses cron."""
        self._start("cronserver", ["manage.py", "cronserver", str(seconds)])

    def start_till(self, seconds: float) -> None:
        """Start a program without Django that pings its heartbeat monitor."""
        url = (self.directory / "till-url").read_text()
        self._start("till", ["till.py", url, str(seconds)])

    def check(self) -> None:
        """Raise DemoError if a process has ended by itself."""
        for name, child in self._children.items():
            if child.poll() is not None:
                raise DemoError(f"{name} ended by itself with exit code {child.returncode}.")

    def wait(self) -> None:
        """Wait as long as all processes run."""
        while True:
            self.check()
            time.sleep(0.5)

    def stop(self, name: str, seconds: float = 20) -> int:
        """Stop a process, with SIGKILL after ``seconds``; return its exit code."""
        child = self._children.pop(name)
        child.terminate()
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    def processes(self) -> list[psutil.Process]:
        """Return every process that was started by this site, also with another parent now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARKER_VARIABLE) == self._marker:
                    found.append(process)
        return found

    def crontab_line(self) -> str:
        """Return the crontab line for a real installation."""
        chroniker = Path(sys.executable).with_name("chroniker")
        elsewhere = f"DEMO_DIR={self.directory} " if os.environ.get("DEMO_DIR") else ""
        return f"* * * * * {elsewhere}{chroniker} -s bookshop_site.settings -p {PROJECT}"

    def start_program(self, name: str, command: list[str], log: Path, **env: str) -> None:
        """Start another program that ends with the site; its output is written to a file."""
        with log.open("w") as file:
            self._popen(name, command, env=self.env | env, stdout=file, stderr=file)

    def _start(self, name: str, command: list[str]) -> None:
        self._popen(name, [sys.executable, *command], env=self.env)

    def _popen(self, name: str, command: list[str], **options: Any) -> None:
        # In sessions of their own: only this process receives Ctrl-C, and stops them in order.
        self._children[name] = subprocess.Popen(
            command,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_terminate_with_parent,
            **options,
        )

    def _is_responding(self) -> bool:
        try:
            with urlopen(f"{self.url}/admin/login/", timeout=5) as response:
                return bool(response.status == 200)
        except (URLError, OSError):
            return False


def _terminate_with_parent() -> None:
    """In the child: have the kernel send SIGTERM when this program is killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


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
