"""Experiments with Celery workers: brokers and workers are killed, frozen, cut off, restarted."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings

from chroniker.conf import conf
from chroniker.executors.celery import CeleryExecutor
from tests.faults import site
from tests.faults.actions import END_SECONDS, FaultActions
from tests.faults.brokers import Broker, own_broker
from tests.faults.experiment import Experiment, chain
from tests.faults.history import History
from tests.faults.hosts import tree
from tests.faults.injector import FaultInjector, FleetConfig
from tests.faults.journal import boottime
from tests.faults.plan import Plan, Step
from tests.faults.workers import BROKER_VARIABLE, MUTANT_VARIABLE, CeleryWorker, WorkerConfig
from tests.support.processes import wait_until

settings: Any = django_settings

QUEUE = "faults"
WORKERS = 3
READY_SECONDS = 90.0
DRAIN_SECONDS = 45.0
START_SECONDS = 8.0
"""What a worker may need to start."""

# Weight, and the limits of the duration in leases.
ON_WORKERS: dict[str, tuple[int, float, float]] = {
    "kill_worker": (4, 0.2, 1.0),
    "kill_child": (6, 0, 0),
    "kill_worker_warden": (3, 0, 0),
    "kill_worker_job": (4, 0, 0),
    "freeze_child": (4, 1.2, 2.0),
    "freeze_worker": (3, 1.2, 2.0),
    "restart_worker": (3, 0, 0),
}
ON_HOSTS: dict[str, tuple[int, float, float]] = {
    "kill_tick": (5, 0, 0),
    "power_off": (2, 0.2, 1.0),
    "freeze_tick": (2, 1.2, 2.0),
}
ON_ALL: dict[str, tuple[int, float, float]] = {
    "crash_broker": (2, 0.1, 0.3),
    "stop_broker": (2, 1.0, 3.0),
    "freeze_broker": (2, 0.5, 2.0),
    "forget_messages": (3, 0, 0),
    "kill_all_workers": (1, 1.2, 2.0),
    "deliver_again": (6, 0, 0),
    "deliver_late": (6, 0, 0),
    "ask_run": (2, 0, 0),
    "ask_stop": (4, 0, 0),
}
MULTI_HOST: dict[str, tuple[int, float, float]] = {
    "terminate": (2, 0, 0),
    "lose_commits": (6, 0, 0),
    "cut_worker": (3, 0, 0),
}
NO_EXCUSE = frozenset(
    {"restart_worker", "crash_broker", "stop_broker", "freeze_broker", "forget_messages",
     "deliver_again", "deliver_late", "ask_run", "ask_stop", "kill_tick", "power_off",
     "freeze_tick"}
)  # fmt: skip
"""Steps that may cost no run on a worker."""


def make_plan(seed: int, seconds: float, lease: float, *, one_machine: bool, every: float) -> Plan:
    """Faults for ``seconds``; workers and brokers that are gone are left alone meanwhile."""
    chance = random.Random(seed)
    hosts, workers = ["h1", "h2"], [f"w{number}@faults" for number in range(1, WORKERS + 1)]
    kinds = ON_WORKERS | ON_HOSTS | ON_ALL | ({} if one_machine else MULTI_HOST)
    names = sorted(kinds)
    weights = [kinds[name][0] for name in names]
    busy: dict[str, float] = {}
    plan, at = Plan(seed, seconds), 1.0
    while (at := at + chance.expovariate(1 / every)) < seconds - lease:
        kind = chance.choices(names, weights)[0]
        _, least, most = kinds[kind]
        duration = chance.uniform(least, most) * lease
        victim = "broker" if "broker" in kind else chance.choice(workers)
        if kind in ON_HOSTS:
            victim = chance.choice(hosts)
        if kind == "kill_all_workers":
            if any(busy.get(worker, 0.0) > at for worker in workers):
                continue
            busy |= dict.fromkeys(workers, at + duration + START_SECONDS)
        elif busy.get(victim, 0.0) > at:
            continue
        if duration or kind == "restart_worker":
            busy[victim] = at + duration + START_SECONDS
        plan.steps.append(Step(round(at, 3), kind, victim, round(duration, 3), 1))
    return plan


def repeated(kind: str, seed: int, seconds: float, lease: float) -> Plan:
    """One kind of fault, again and again; none if it is empty."""
    _, _, most = ({**ON_WORKERS, **ON_HOSTS, **ON_ALL, **MULTI_HOST}).get(kind, (0, 0.0, 0.0))
    plan, at = Plan(seed, seconds), 2.0
    while kind and at < seconds - lease:
        plan.steps.append(Step(at, kind, "w1@faults", most * lease, 1))
        at += 2.0 + (most * lease + START_SECONDS if most else 0.0)
    return plan


class WorkerActions(FaultActions):
    """What a step does to workers and to the broker."""

    def __init__(self, injector: WorkerInjector) -> None:
        super().__init__(injector)
        self._injector = injector

    def _worker(self, step: Step) -> CeleryWorker | None:
        return self._injector.workers.get(step.host)

    def kill_worker(self, step: Step) -> None:
        """Its main process is killed, and a service manager starts it again."""
        worker = self._injector.workers.pop(step.host, None)
        if worker is None:
            return
        self._expect_dead(worker.kill(), f"of worker {step.host}, killed")
        self._in(step, lambda: self._injector.start_worker(step.host))

    def kill_all_workers(self, step: Step) -> None:
        """Nobody consumes the queue for a while, and nobody knows at first."""
        for name in list(self._injector.workers):
            self.kill_worker(replace(step, host=name))
            self._injector.record_fault_of(name, step)

    def kill_child(self, step: Step) -> None:
        worker = self._worker(step)
        child = self._pick(worker.children()) if worker else None
        if child is None:
            return
        below = tree(child)[1:]
        os.kill(child, signal.SIGKILL)
        self._expect_dead(below, f"of process {child} of {step.host}, killed")

    def kill_worker_warden(self, step: Step) -> None:
        worker = self._worker(step)
        warden = self._pick(worker.wardens()) if worker else None
        if warden is None:
            return
        below = tree(warden)[1:]
        os.kill(warden, signal.SIGKILL)
        self._expect_dead(below, f"of warden {warden} of {step.host}, killed")

    def kill_worker_job(self, step: Step) -> None:
        worker = self._worker(step)
        self._kill(worker.jobs() if worker else [])

    def freeze_child(self, step: Step) -> None:
        """A process of the pool is frozen, and not the run that it guards."""
        worker = self._worker(step)
        child = self._pick(worker.children()) if worker else None
        if child is None:
            return
        os.kill(child, signal.SIGSTOP)

        def thaw() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGCONT)

        self._in(step, thaw)

    def freeze_worker(self, step: Step) -> None:
        """The whole machine of a worker is frozen."""
        worker = self._worker(step)
        if worker is None:
            return
        worker.freeze()
        self._injector.journal.write("host_frozen", host=step.host)

        def thaw() -> None:
            self._injector.journal.write("host_thawed", host=step.host)
            worker.thaw()

        self._in(step, thaw)

    def restart_worker(self, step: Step) -> None:
        """A worker is deployed: SIGTERM, and a new one."""
        worker = self._injector.workers.pop(step.host, None)
        if worker is None:
            return
        worker.shut_down()
        began = time.monotonic()

        def look() -> None:
            if not worker.ended():
                if time.monotonic() < began + conf.KILL_GRACE_SECONDS + 2 * END_SECONDS:
                    self._injector.schedule(time.monotonic() + 0.1, look)
                    return
                self._injector.leftovers.append(f"{step.host} did not obey SIGTERM")
                worker.kill()
            self._injector.start_worker(step.host)

        look()

    def cut_worker(self, step: Step) -> None:
        self._send_to_proxy(step, "cut")

    # --- the broker ---

    def crash_broker(self, step: Step) -> None:
        """The broker crashes, and comes back with what it has stored."""
        self._injector.broker.crash()
        self._in(step, self._injector.start_broker)

    stop_broker = crash_broker

    def freeze_broker(self, step: Step) -> None:
        """The broker neither answers nor closes, as behind a partition."""
        self._injector.broker.signal(signal.SIGSTOP)
        self._in(step, lambda: self._injector.broker.signal(signal.SIGCONT))

    def forget_messages(self, step: Step) -> None:
        """Everything that waits in the queue is lost; workers are slow for a moment before."""
        from tests.faults.celery_site import app

        slow = list(self._injector.workers.values())
        self._signal_main_processes(slow, signal.SIGSTOP)

        def forget() -> None:
            with contextlib.suppress(Exception), app.connection_for_write(connect_timeout=1) as one:
                one.default_channel.queue_purge(QUEUE)
            self._signal_main_processes(slow, signal.SIGCONT)

        self._injector.schedule(time.monotonic() + 1.5, forget)

    @staticmethod
    def _signal_main_processes(workers: list[CeleryWorker], number: int) -> None:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, number)

    def deliver_again(self, step: Step) -> None:
        """What was published last is delivered again."""
        from tests.faults.celery_site import noted_orders

        self._publish(noted_orders()[-5:])

    def deliver_late(self, step: Step) -> None:
        """Old orders are delivered, of runs that have ended, were lost, or are running."""
        from tests.faults.celery_site import noted_orders

        orders = noted_orders()
        self._publish(self._injector.chance.sample(orders, min(10, len(orders))))

    def _publish(self, orders: list[Any]) -> None:
        CeleryExecutor().start(orders)


class WorkerInjector(FaultInjector):
    """Hosts that publish, a broker, and workers."""

    def __init__(self, *args: Any, broker: Broker, mutant: str = "") -> None:
        super().__init__(*args)
        self.broker = broker
        self.actions = WorkerActions(self)
        self.workers: dict[str, CeleryWorker] = {}
        self._mutant = mutant
        self._broker_starts = False

    def start(self) -> None:
        super().start()
        for number in range(1, WORKERS + 1):
            self.start_worker(f"w{number}@faults")
        self.wait_for_workers()

    def start_worker(self, name: str) -> None:
        """Start a worker, unless it runs. Their acknowledgement and prefetch differ."""
        if name in self.workers:
            return
        number = int(name[1 : name.index("@")])
        if self.proxy and name not in self.ports:
            self.ports[name] = self.proxy.send_command("door", name)
        environment = {
            "CHRONIKER_FAULTS_LEASE": str(conf.LEASE_SECONDS),
            MUTANT_VARIABLE: self._mutant,
        }
        if name in self.ports:
            port = str(self.ports[name])
            environment |= {"PGHOST": "127.0.0.1", "PGPORT": port,
                            "MYSQL_HOST": "127.0.0.1", "MYSQL_PORT": port}  # fmt: skip
        self.workers[name] = CeleryWorker(
            WorkerConfig(
                name=name,
                directory=self.directory,
                runtime_dir=self._runtime_dir(name),
                queue=QUEUE,
                acks="late" if number == 1 else "early",
                prefetch=4 if number == 2 else 1,
                environment=environment,
            )
        )

    def start_broker(self) -> None:
        self.broker.start(wait=False)

    def wait_for_workers(self) -> None:
        from chroniker.models import Worker

        def ready() -> bool:
            self._read_journal()
            return Worker.objects.live().count() == WORKERS

        wait_until(ready, READY_SECONDS, message="all workers to report")

    def undo_faults(self) -> None:
        super().undo_faults()
        for name, worker in self.workers.items():
            self.journal.write("host_thawed", host=name)
            worker.thaw()
        if self.broker.process is None:
            self.start_broker()
        self.broker.signal(signal.SIGCONT)
        wait_until(self.broker.answers, READY_SECONDS, message="the broker to answer")
        for number in range(1, WORKERS + 1):
            self.start_worker(f"w{number}@faults")

    def settle(self) -> None:
        self.wait_for_workers()  # Celery waits longer and longer for its broker
        self._wait(10.0)  # and so does a scheduler
        super().settle()

    def drain(self) -> None:
        """Start nothing new, and wait until nothing runs and nothing is queued."""
        from chroniker.models import Host, JobState

        def nothing_runs() -> bool:
            Host.objects.update(paused=True)  # also that of a host that has just started
            self._read_journal()
            return not JobState.objects.filter(lease_token__isnull=False).exists()

        try:
            wait_until(nothing_runs, DRAIN_SECONDS, interval=0.5)
        except AssertionError:
            left = JobState.objects.filter(lease_token__isnull=False).select_related("job")
            self.stuck += [f"{state.job}, owned by {state.lease_owner}" for state in left]

    def finish(self) -> None:
        for worker in self.workers.values():
            worker.shut_down()
        deadline = time.monotonic() + conf.KILL_GRACE_SECONDS + 2 * END_SECONDS
        for worker in self.workers.values():
            while not worker.ended():
                if time.monotonic() > deadline:
                    self.leftovers.append(f"{worker.name} did not end")
                    worker.kill()
                time.sleep(0.05)
        self.workers.clear()
        super().finish()

    def _orphaned_pids(self) -> list[int]:
        server = self.broker.process.pid if self.broker.process else 0
        return [pid for pid in super()._orphaned_pids() if pid not in tree(server)]

    def record_fault_of(self, worker: str, step: Step) -> None:
        """Record a fault of one worker that is part of a step for all."""
        self._record_fault(step.kind, boottime() - 0.5, step.seconds + 0.5, worker)

    def do(self, step: Step) -> None:
        """Start a fault. What happens to hosts and to the broker may cost no run of a worker."""
        begin = boottime()
        super().do(step)
        if step.kind in NO_EXCUSE:
            self.faults = [each for each in self.faults if each.kind != step.kind]
        if step.kind in ("kill_tick", "power_off", "freeze_tick"):  # but those of the host
            self._record_fault("of the host", begin, boottime() - begin + step.seconds, step.host)


def worker_jobs(experiment: Experiment, queue_length: int = 12) -> None:
    """Jobs of every kind, most of them on workers, some on the hosts beside them."""
    for number in range(queue_length):
        experiment.job(f"quick {number}", "quick", every=2, max_runs_kept=None)
    for number in range(4):
        experiment.job(
            f"sleeper {number}", f"sleep {0.3 + 0.9 * number}", every=3, max_runs_kept=None
        )
    for number in range(2):
        experiment.job(f"failing {number}", "fail 0.05", every=3, max_retries=2,
                retry_delay_seconds=1, max_runs_kept=None)  # fmt: skip
    experiment.job("stubborn", "ignore_sigterm 20", every=5, timeout_seconds=1,
                   kill_grace_seconds=1, max_runs_kept=None)  # fmt: skip
    experiment.job("daemon", "daemonize 0.3", every=4, kill_grace_seconds=1, max_runs_kept=None)
    experiment.job("flood", "flood 2", every=5, max_runs_kept=None)
    experiment.job("progress", "progress 1", every=4, max_runs_kept=None)
    experiment.job("talker", "print_lines 2.5", every=5, max_runs_kept=None)
    experiment.job("pruned", "quick", every=2, max_runs_kept=10)
    experiment.job("impatient", "quick", every=2, start_deadline_seconds=1, max_runs_kept=None)
    for number in range(3):
        experiment.job(f"here {number}", "quick", every=2, executor="local", max_runs_kept=None)
    chain(experiment)


def _site(experiment: Experiment, lease: float, broker: Broker) -> None:
    settings.CHRONIKER_LEASE_SECONDS = experiment.notes["lease"] = lease
    settings.CHRONIKER_EXECUTOR = "celery"
    settings.CHRONIKER_EXECUTORS = {"celery": "tests.faults.celery_site.NotingExecutor"}
    settings.CHRONIKER_CELERY_APP = "tests.faults.celery_site.app"
    settings.CHRONIKER_QUEUE = QUEUE
    os.environ[BROKER_VARIABLE] = broker.url
    from tests.faults.celery_site import use_broker

    use_broker(broker.url)  # it may have been imported for an earlier experiment


def workers(
    experiment: Experiment,
    broker: str = "redis",
    seconds: float = 60.0,
    every: float = 1.2,
    lease: float = 0.0,
    only: str | None = None,
) -> History:
    """Random faults to workers, schedulers and the broker.

    ``only``: this kind of fault, again and again; empty: none.
    """
    from tests.faults.scenarios import affordable_lease

    with own_broker(broker) as server:
        _site(experiment, lease or affordable_lease(), server)
        worker_jobs(experiment)
        if only is not None:
            plan = repeated(only, experiment.seed, seconds, conf.LEASE_SECONDS)
        else:
            plan = make_plan(
                experiment.seed, seconds, conf.LEASE_SECONDS,
                one_machine=site.connection.vendor == "sqlite", every=every,
            )  # fmt: skip
        config = FleetConfig(hosts=2, prepare=experiment.prepare, drain=True)
        config.settle = experiment.prepare is None
        injector = WorkerInjector(
            config, experiment.directory, experiment.seed, broker=server, mutant=experiment.mutant
        )
        history = injector.perform(plan, experiment.jobs)
    experiment.notes["broker"] = broker
    experiment.notes["faults"] = sum(injector.done.values())
    experiment.notes["kinds"] = injector.done
    orders = Path(experiment.directory, "orders.jsonl")
    experiment.notes["orders"] = len(orders.read_text().splitlines()) if orders.exists() else 0
    return history


__all__ = ["workers"]
