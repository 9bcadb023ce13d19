"""Run one experiment: ``python -m tests.faults BACKEND SCENARIO [--seed N] [key=value ...]``.

``--deployment``: how the hosts reach the database, for example ``pgbouncer``.

``--serve``: read one experiment a line from standard input (JSON), answer each with a line; that
is how the tests use it. The process keeps one database for all of them, removes it in the end,
and stops everything that it has started.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import signal
import sys
import traceback
from contextlib import nullcontext
from typing import Any

from tests.faults.deployment import Deployment

_PR_SET_PDEATHSIG = 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("backend", choices=("sqlite", "postgres", "mariadb"))
    parser.add_argument("scenario", nargs="?", default="random")
    parser.add_argument("options", nargs="*", metavar="key=value")
    parser.add_argument("--deployment", type=Deployment, default=Deployment.DIRECT,
                        metavar="|".join(Deployment))  # fmt: skip
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CHRONIKER_FAULT_SEED", 0)))
    parser.add_argument("--mutant", default="")
    parser.add_argument("--serve", action="store_true")
    arguments = parser.parse_intermixed_args()
    if arguments.backend not in arguments.deployment.backends:
        parser.error(f"{arguments.deployment} is not for {arguments.backend}")
    os.environ["CHRONIKER_FAULTS_DEPLOYMENT"] = arguments.deployment
    os.environ["CHRONIKER_TEST_DB"] = arguments.backend
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.faults.settings"
    if arguments.serve:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    main_process = os.getpid()

    def end(*_: object) -> None:
        if os.getpid() != main_process:  # a fork that has not yet a handler of its own
            os._exit(143)
        sys.exit(143)

    signal.signal(signal.SIGTERM, end)

    from tests.faults import servers

    needs_servers = arguments.backend == "postgres"
    with servers.own_servers(arguments.deployment) if needs_servers else nullcontext():
        return work(arguments)


def work(arguments: argparse.Namespace) -> int:
    """Run in the environment of the server."""
    import django

    django.setup()

    # Before any fork: importing this in each tick costs a tenth of a second, and the code
    # may be edited in the meantime.
    import chroniker.engine.entrypoints  # noqa: F401
    import chroniker_monitors.collector.prometheus  # noqa: F401
    import tests.faults.app.management.commands.record_run
    import tests.faults.batch_scenarios  # noqa: F401
    from chroniker.processes.warden import become_subreaper

    become_subreaper()
    if arguments.serve:
        return serve()
    options = {key: json.loads(value) for key, _, value in
               (option.partition("=") for option in arguments.options)}  # fmt: skip
    order = {
        "scenario": arguments.scenario,
        "seed": arguments.seed or random.SystemRandom().randrange(1, 10**6),
        "mutant": arguments.mutant,
        "options": options,
    }
    from tests.faults import site

    with site.own_directory(tmpfs_mib=48) as directory, site.own_database(directory):
        report = perform(order, directory)
    print(json.dumps(report, indent=1))
    return 1 if report["violations"] else 0


def serve() -> int:
    """Perform requests from standard input until it is closed."""
    from tests.faults import site

    with site.own_directory(tmpfs_mib=48) as directory, site.own_database(directory):
        for line in sys.stdin:
            try:
                report = perform(json.loads(line), directory)
            except Exception:
                report = {"error": traceback.format_exc()}
            print(json.dumps(report), flush=True)
    return 0


def perform(order: dict[str, Any], base: Any) -> dict[str, Any]:
    """Perform one experiment in empty tables."""
    from tests.faults import mutants, site
    from tests.faults.scenarios import Experiment, run_scenario

    site.empty()
    with site.own_directory() as directory:
        if (base / "disk").exists():
            (directory / "disk").symlink_to(base / "disk")
        experiment = Experiment(directory, order["seed"])
        mutant = order.get("mutant")
        if not mutant:
            return run_scenario(experiment, order["scenario"], **order.get("options", {}))
        with mutants.applied(mutant, experiment):
            return run_scenario(experiment, order["scenario"], **order.get("options", {}))


if __name__ == "__main__":
    sys.exit(main())
