"""A real cron daemon with its own crontab."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.support.machine import machine_lock

TABLE = Path("/etc/cron.d/chroniker-tests")


@contextlib.contextmanager
def run_cron_daemon(line: str, environment: dict[str, str], scratch: Path) -> Iterator[None]:
    """Debian's ``cron`` in the foreground, reading ``line`` with ``environment`` above it.

    One at a time on a machine: the daemon takes a lock, and its crontabs are those of the system.
    """
    fields = line.split(maxsplit=5)
    wanted = {
        name: value
        for name, value in environment.items()
        if name.startswith(("CHRONIKER_", "PG", "MYSQL_")) and "\n" not in value
    }
    wanted["MAILTO"] = '""'  # an empty value has to be quoted
    settings = "".join(f"{name}={value}\n" for name, value in wanted.items())
    with machine_lock("cron"):
        TABLE.write_text(f"{settings}{' '.join(fields[:5])} root {fields[5]}\n")
        TABLE.chmod(0o644)
        log = (scratch / "cron.log").open("wb")
        # If the machine runs cron anyway, that daemon reads the crontab as well.
        running = any(process.name() == "cron" for process in psutil.process_iter())
        daemon = None
        if not running:
            daemon = subprocess.Popen(
                ["cron", "-f", "-L", "15"], stdout=log, stderr=log, start_new_session=True
            )
        try:
            time.sleep(0.2)
            assert daemon is None or daemon.poll() is None, (scratch / "cron.log").read_text()
            yield
        finally:
            TABLE.unlink(missing_ok=True)
            if daemon is not None:
                daemon.terminate()
                daemon.wait(10)
            log.close()
