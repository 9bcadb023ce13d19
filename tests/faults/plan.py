"""Plans of faults, generated from a seed, so that a failure can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.deployment import Deployment


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """A fault: its start (seconds from the beginning), kind, host and duration."""

    at: float
    kind: str
    host: str = ""
    seconds: float = 0.0
    number: int = 0
    """How many COMMITs, ticks, or which of several victims."""


# Weight, and the limits of the duration in leases; zero: no duration.
ANY_SETUP: dict[str, tuple[int, float, float]] = {
    "kill_tick": (6, 0, 0),
    "kill_forkserver": (3, 0, 0),
    "kill_warden": (5, 0, 0),
    "kill_job": (4, 0, 0),
    "freeze_tick": (4, 1.2, 2.0),
    "freeze_job": (3, 1.2, 1.6),
    "power_off": (2, 0.2, 1.0),
    "power_off_all": (1, 0.6, 1.2),
    "burst": (2, 0, 0),
    "ask_run": (3, 0, 0),
    "ask_stop": (3, 0, 0),
    "hold_rows": (2, 0.2, 0.6),
}
MULTI_HOST: dict[str, tuple[int, float, float]] = {
    "freeze_host": (5, 1.2, 2.0),
    "terminate": (4, 0, 0),
    "cut": (3, 0, 0),
    "refuse": (2, 0.3, 1.6),
    "blackhole": (4, 0.4, 2.0),
    "silence": (2, 0.4, 1.6),
    "delay": (2, 0.5, 1.5),
    "lose_commits": (6, 0, 0),
    "skew": (2, 0, 0),
    "step_clock": (2, 0, 0),
    "crash": (1, 0.1, 0.3),
}
ONE_MACHINE: dict[str, tuple[int, float, float]] = {
    "freeze_host": (4, 1.2, 2.0),
    "full_disk": (3, 0.4, 1.4),
}


OF_DEPLOYMENT: dict[Deployment, dict[str, tuple[int, float, float]]] = {
    Deployment.PGBOUNCER: {"kill_pooler": (3, 0.1, 0.6)},
    Deployment.PGBOUNCER_SESSION: {"kill_pooler": (3, 0.1, 0.6)},
    Deployment.REPLICA: {"crash_replica": (3, 0.2, 0.8)},
}


@dataclass(slots=True)
class Plan:
    """A seed and the steps generated from it."""

    seed: int
    seconds: float
    steps: list[Step] = field(default_factory=list)


def generate_plan(
    seed: int,
    seconds: float,
    hosts: Sequence[str],
    lease: float,
    *,
    one_machine: bool,
    every: float = 0.9,
    deployment: Deployment = Deployment.DIRECT,
) -> Plan:
    """Faults for ``seconds``, one every ``every`` seconds on average.

    A host that is frozen, cut off or switched off is left alone until that has passed. The last
    two leases are quiet, and so is the first second.
    """
    chance = random.Random(seed)
    kinds = ANY_SETUP | (ONE_MACHINE if one_machine else MULTI_HOST)
    kinds |= OF_DEPLOYMENT.get(deployment, {})
    names = sorted(kinds)
    weights = [kinds[name][0] for name in names]
    busy_until = dict.fromkeys(hosts, 0.0)
    plan = Plan(seed, seconds)
    at = 1.0
    while (at := at + chance.expovariate(1 / every)) < seconds - lease:
        kind = chance.choices(names, weights)[0]
        _, least, most = kinds[kind]
        duration = chance.uniform(least, most) * lease
        host = chance.choice(list(hosts))
        number = chance.randrange(1, 4)
        if kind in ("power_off_all", "crash", "kill_pooler"):
            if any(until > at for until in busy_until.values()):
                continue
            busy_until = dict.fromkeys(hosts, at + duration + 0.5)
        elif busy_until[host] > at:
            continue
        elif duration or kind == "skew":
            busy_until[host] = at + duration + 0.5
        plan.steps.append(Step(round(at, 3), kind, host, round(duration, 3), number))
    return plan
