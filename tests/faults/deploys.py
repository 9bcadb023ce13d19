"""Experiments without a fault: hosts that are restarted in order, and pods that come and go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings as django_settings

from tests.faults.experiment import Experiment
from tests.faults.history import History
from tests.faults.injector import FaultInjector, FleetConfig
from tests.faults.plan import Plan, Step

settings: Any = django_settings

_RESTART_SECONDS = 2.0
"""From the restart of a host to that of the next one."""
_WARM_UP_SECONDS = 3.0
_PERIOD_SECONDS = 30
"""Of each job; four jobs are due in each second."""


def rolling_deploy(experiment: Experiment, times: int = 3, hosts: int = 3) -> History:
    """Each host in turn gets SIGTERM and is started again, under load; all of that ``times``.

    A scheduler waits for its runs for the grace time, one second here. So the short jobs end by
    themselves, and the long ones are interrupted. No job is so long that its restarts reach its
    next slot, because that slot would rightly be missed. Leases are longer than elsewhere, because
    this is about deploys and not about a busy machine.
    """
    settings.CHRONIKER_LEASE_SECONDS = 10.0
    now = datetime.now(UTC).replace(microsecond=0)
    due = [now + timedelta(seconds=number - _PERIOD_SECONDS) for number in range(_PERIOD_SECONDS)]
    for number in range(3 * _PERIOD_SECONDS):
        experiment.job(f"short {number}", f"sleep {0.1 + number % 4 * 0.2:.1f}",
                       every=_PERIOD_SECONDS, created=due[number % _PERIOD_SECONDS],
                       max_runs_kept=None)  # fmt: skip
    for number in range(_PERIOD_SECONDS):
        experiment.job(f"long {number}", "query 2.5" if number % 6 == 0 else "sleep 2.5",
                       every=_PERIOD_SECONDS, created=due[number], max_runs_kept=None)  # fmt: skip
    restarts = times * hosts
    steps = [
        Step(_WARM_UP_SECONDS + number * _RESTART_SECONDS, "restart", f"h{number % hosts + 1}")
        for number in range(restarts)
    ]
    seconds = _WARM_UP_SECONDS + restarts * _RESTART_SECONDS + 8.0
    config = FleetConfig(hosts=hosts, servers="all", settle=False, drain=True)
    history = experiment.run_plan(config, Plan(experiment.seed, seconds, steps))
    experiment.notes["deploys"] = times
    experiment.notes["restarts"] = history.deploys
    return history


def pods(experiment: Experiment, number: int = 50, living: int = 3) -> History:
    """``number`` hosts with new names, of which ``living`` live at a time.

    Each is replaced, as by a deploy or an autoscaler; every fifteenth is killed instead. At the
    end the metrics page and the lists must show those that live, and no other.
    """
    settings.CHRONIKER_HOST_RETIRE_HOURS = _SILENT_SECONDS / 3600
    for each in range(4):
        experiment.job(f"everywhere {each}", "sleep 0.1 --per-host", every=2, hostname="*",
                       max_runs_kept=None)  # fmt: skip
        experiment.job(f"anywhere {each}", "sleep 0.1", every=2, max_runs_kept=None)
    steps: list[Step] = []
    for new in range(living + 1, number + 1):
        old = new - living
        kind = "kill_host" if old % 15 == 0 else "replace_host"
        steps.append(Step(2.0 + 0.7 * len(steps), kind, f"h{old}", number=new))
    # Those that were killed fall silent, and are retired then.
    seconds = steps[-1].at + _SILENT_SECONDS + 5.0
    config = FleetConfig(hosts=living, servers="all", settle=False, prepare=experiment.prepare,
                         look_at_hosts=True)  # fmt: skip
    injector = FaultInjector(config, experiment.directory, experiment.seed)
    history = injector.perform(Plan(experiment.seed, seconds, steps), experiment.jobs)
    history.live_hosts = [f"h{each}" for each in range(number - living + 1, number + 1)]
    experiment.notes["pods"] = number
    experiment.notes["hosts_on_page"] = history.hosts_on_page
    return history


_SILENT_SECONDS = 10.0
"""After which a host that was killed is retired; a site waits for hours."""
