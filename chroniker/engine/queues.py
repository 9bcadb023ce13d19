"""The queues of remote executors: how many runs they have room for, and why a due job waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q

from chroniker.conf import CELERY, conf
from chroniker.db.clock import statement_now_plus
from chroniker.enums import BlockedReason
from chroniker.exceptions import ExecutorNotReady
from chroniker.executors.base import RemoteExecutor
from chroniker.models import JobState, Run, Worker
from chroniker.models.job import is_remote

from .blocking import store_blocked
from .candidates import QueueRoom

MAX_ROOM = 500
"""The maximum number of runs that one claim publishes to a queue."""
_FLOW_SECONDS = 2
_MAX_QUEUES = 100


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of a remote executor."""

    executor: str
    name: str

    @property
    def jobs(self) -> Q:
        """The jobs whose runs go there, for a query of states."""
        here = Q(job__executor=self.executor)
        if self.executor == conf.EXECUTOR:
            here |= Q(job__executor="", job__hostname="")
        names = Q(job__queue=self.name)
        if self.name == conf.QUEUE:
            names |= Q(job__queue="")
        return here & names


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why nothing can be published to a queue now."""

    queue: Queue
    reason: BlockedReason
    detail: str
    is_costly: bool = False
    """Whether to find out again takes time: something did not answer."""


def due_queues(now: datetime, *, only: frozenset[int] | None = None) -> list[Queue]:
    """The queues of the remote jobs that are due or, with ``only``, of those jobs."""
    states = JobState.objects.due(now) if only is None else JobState.objects.filter(job__in=only)
    found = (
        states.filter(is_remote("job__")).order_by().values_list("job__executor", "job__queue")
    ).distinct()[:_MAX_QUEUES]
    queues = [Queue(name or conf.EXECUTOR, queue or conf.QUEUE) for name, queue in found]
    return list(dict.fromkeys(queues))


def find_rooms(
    queues: Iterable[Queue], executor_of: Callable[[str], RemoteExecutor], *, force: bool = False
) -> tuple[tuple[QueueRoom, ...], list[Obstacle]]:
    """The queues to which runs can be published, and the obstacles of the others.

    As many runs are handed over as the workers execute at the same time, and as many more as they
    have finished in the last seconds, so that none waits for this scheduler. ``force``: whether the
    workers are busy does not count.
    """
    rooms: list[QueueRoom] = []
    obstacles: list[Obstacle] = []
    capacities = worker_capacities()
    outstanding = _outstanding()
    for queue in queues:
        try:
            executor = executor_of(queue.executor)
            capacity = executor.capacity(queue.name)
            if capacity is None and not capacities[queue]:
                obstacles.append(Obstacle(queue, BlockedReason.QUEUE, no_worker(queue)))
                continue
            capacity = capacities[queue] if capacity is None else capacity
            room = MAX_ROOM if force else capacity + _recent_ends(queue) - outstanding[queue]
            if room <= 0:
                detail = f"All workers of the queue {queue.name} are busy ({capacity} processes)."
                obstacles.append(Obstacle(queue, BlockedReason.CAPACITY, detail))
                continue
            executor.check()
        except ExecutorNotReady as error:
            obstacles.append(Obstacle(queue, BlockedReason.QUEUE, str(error), is_costly=True))
        else:
            room = min(room, MAX_ROOM)
            rooms.append(QueueRoom(queue.executor, queue.name, queue.jobs, room))
    return tuple(rooms), obstacles


def worker_capacities() -> Counter[Queue]:
    """How many runs the live workers of each queue execute at the same time."""
    capacities: Counter[Queue] = Counter()
    for executor, names, processes in Worker.objects.live().values_list(
        "executor", "queues", "processes"
    ):
        for name in names:
            capacities[Queue(executor, name)] += processes
    return capacities


def no_worker(queue: Queue) -> str:
    """What is wrong with a queue that no live worker consumes, and what to do."""
    if queue.executor == CELERY:
        return (
            f"No Celery worker consumes the queue {queue.name}. Start one with -Q {queue.name}, "
            "from a site that has Chroniker among its apps."
        )
    return f"No worker of {queue.executor} consumes the queue {queue.name}."


def _outstanding() -> Counter[Queue]:
    """How many runs of each queue have been handed over and have not ended."""
    rows = (
        JobState.objects.filter(is_remote("job__"), lease_token__isnull=False)
        .order_by()
        .values_list("job__executor", "job__queue")
        .annotate(Count("pk"))
    )
    counted: Counter[Queue] = Counter()
    for executor, queue, number in rows:
        counted[Queue(executor or conf.EXECUTOR, queue or conf.QUEUE)] += number
    return counted


def _recent_ends(queue: Queue) -> int:
    """How many of its runs have ended in the last seconds."""
    since = statement_now_plus(-_FLOW_SECONDS)
    return Run.objects.filter(queue.jobs, ended_at__gte=since).exclude(ran_on="").count()


def explain_obstacles(obstacles: Iterable[Obstacle], now: datetime, host: str) -> None:
    """Store why the due jobs of queues do not start."""
    for obstacle in obstacles:
        waiting = JobState.objects.due(now).for_host(host).unpaused(now).unblocked(now)
        waiting = waiting.filter(obstacle.queue.jobs).order_by("due_at")
        store_blocked(waiting, obstacle.reason, obstacle.detail)
