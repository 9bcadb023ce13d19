"""Serve the demo, with Celery workers (``celery``), observe it with Prometheus and Alertmanager, or
test it (``smoke``)."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
from typing import Any, NoReturn

from .site import PROJECT, DemoError, DemoSite, available_port, default_directory

BANNER = """
  Site       {url}/
  Admin      {url}/admin/          (user admin, password {password})
  Monitors   {url}/admin/chroniker_monitors/monitor/
  Incidents  {url}/admin/chroniker/incident/
  Metrics    {url}/metrics
  Mail       {directory}/mail      (emails to the admin)

The jobs start within two minutes. Everything the demo writes is in {directory}.
The feed fails every third time. The admin gets an email for each failure and each recovery, until
the job counts as flapping. After about three minutes the monitors show ok, warning and critical.
A real installation has this line in its crontab instead of `cronserver`:

  {crontab}

Press Ctrl-C to stop.
"""
TICK_SECONDS = 5
TILL_SECONDS = 20
CELERY_WORKERS = 2


def serve(port: int, workers: int = 0) -> int:
    """Build what is missing, start the site and the scheduler, and wait for Ctrl-C.

    ``workers``: how many Celery workers execute the jobs; 0: the scheduler does it itself.
    """
    with DemoSite(default_directory(), port) as site:
        if workers:
            site.start_broker()
        if site.port != port:
            print(f"Port {port} is in use; using {site.port}.")
        print("Building the bookshop ...", flush=True)
        site.seed()
        site.start_web()
        site.start_workers(workers)
        site.start_scheduler(TICK_SECONDS)
        site.start_till(TILL_SECONDS)
        print(
            BANNER.format(
                url=site.url,
                password=site.password,
                directory=site.directory,
                crontab=site.crontab_line(),
            ),
            flush=True,
        )
        site.processes.wait()
    return 0


def smoke() -> int:
    """Run the demo in a temporary directory and test it with pytest; the exit code."""
    if importlib.util.find_spec("pytest_django") is None:
        raise DemoError("pytest-django is not installed. Install the development dependencies.")
    import pytest

    with tempfile.TemporaryDirectory(prefix="bookshop-") as directory:
        os.environ.pop("PYTEST_ADDOPTS", None)
        os.environ["DEMO_DIR"] = directory
        os.environ["DEMO_URL"] = f"http://127.0.0.1:{available_port(0)}"
        sys.path.insert(0, str(PROJECT))
        code = pytest.main(
            [
                str(PROJECT.parent / "tests" / "demo" / "running"),
                "--ds=bookshop_site.settings",
                *("-v", "--timeout=180", "-p", "no:randomly", "-p", "no:cacheprovider"),
            ]
        )
    if code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    return int(code)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=("serve", "celery", "observe", "smoke"), default="serve"
    )
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have set SIGINT to ignored
        signal.signal(number, _interrupt)
    try:
        if options.what == "smoke":
            return smoke()
        if options.what == "observe":
            from . import observe  # it needs development dependencies

            return observe.main(options.port)
        return serve(options.port, CELERY_WORKERS if options.what == "celery" else 0)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nEnded.")
        return 130 if options.what == "smoke" else 0


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
