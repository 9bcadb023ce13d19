"""``python -m demo serve``, to click through; ``python -m demo observe``, with a Prometheus and an
Alertmanager beside it; ``python -m demo smoke``, looked at by a program."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any, NoReturn

from . import smoke
from .site import DemoError, DemoSite, default_directory

BANNER = """
  Site       {url}/
  Admin      {url}/admin/          (user admin, password {password})
  Monitors   {url}/admin/chroniker_monitors/monitor/
  Incidents  {url}/admin/chroniker/incident/
  Metrics    {url}/metrics
  Mail       {directory}/mail      (what the admin is sent)

The jobs start within two minutes; all that is written lies in {directory}. The feed fails every
third time, and is told in a mail, as is its recovery, until it counts as flapping. The monitors
show ok, warning and critical after about three minutes.
In a real installation, this line in the crontab takes the place of `cronserver`:

  {crontab}

Ctrl-C ends it.
"""
TICK_SECONDS = 5
TILL_SECONDS = 20


def serve(port: int) -> int:
    """Build what is missing, start the site and the scheduler, and stay until Ctrl-C."""
    with DemoSite(default_directory(), port) as site:
        if site.port != port:
            print(f"Port {port} is taken; using {site.port}.")
        print("Building the bookshop ...", flush=True)
        site.seed()
        site.start_web()
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
        site.wait()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("serve", "observe", "smoke"), default="serve")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell told to ignore the first
        signal.signal(number, _interrupt)
    try:
        if options.what == "smoke":
            return smoke.main()
        if options.what == "observe":
            from . import observe  # it needs what only developers have

            return observe.main(options.port)
        return serve(options.port)
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
