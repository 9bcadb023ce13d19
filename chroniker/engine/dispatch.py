"""Remote runs of one scheduler: published to workers, watched in the database, published again."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial

from chroniker.alerting.overdue import open_waiting
from chroniker.conf import conf
from chroniker.db.transactions import run_transaction
from chroniker.enums import RunStatus
from chroniker.exceptions import ExecutorNotReady
from chroniker.executors.base import RemoteExecutor, RunOrder
from chroniker.executors.registry import make_remote_executor
from chroniker.logs import log_context
from chroniker.models import JobState, Notification, Run
from chroniker.processes.running_child import Outcome

from .candidates import QueueRoom
from .claims import ClaimedRun
from .completion import FinishedRun, end_run
from .orders import order_of, postpone, withdraw
from .queues import (
    Obstacle,
    Queue,
    due_queues,
    explain_obstacles,
    find_rooms,
    no_worker,
    worker_capacities,
)

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 0.4
"""How often the database is asked which runs have ended."""
_RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
"""How long nothing is published to a queue after the first failure, and after further ones."""
_BATCH = 500


class Dispatcher:
    """Publishes claimed runs, and notices when workers have ended them.

    ``on_recorded`` is called for each run that a worker has ended, and recorded. ``on_stopped`` is
    called for each whose end was recorded here, because a person stopped it in its queue.
    """

    def __init__(
        self,
        on_recorded: Callable[[FinishedRun], None],
        on_stopped: Callable[[FinishedRun], None],
    ) -> None:
        self._on_recorded = on_recorded
        self._on_stopped = on_stopped
        self._executors: dict[str, RemoteExecutor] = {}
        self.outstanding: dict[int, ClaimedRun] = {}
        """The runs that this scheduler has published and that have not ended, by primary key."""
        self._watched_at = 0.0
        self._obstacles: dict[Queue, Obstacle] = {}
        """Why the runs of some queues are not claimed."""
        self._failures: Counter[Queue] = Counter()
        self._retry_at: dict[Queue, float] = {}

    def executor(self, name: str) -> RemoteExecutor:
        """The executor of that name. Raises ExecutorNotReady."""
        if name not in self._executors:
            self._executors[name] = make_remote_executor(name)
        return self._executors[name]

    def rooms(
        self, now: datetime, *, only: frozenset[int] | None, force: bool
    ) -> tuple[QueueRoom, ...]:
        """The queues to which runs can be published now."""
        clock = time.monotonic()
        due = due_queues(now, only=only if force else None)
        ready = [queue for queue in due if self._retry_at.get(queue, 0.0) <= clock]
        self._obstacles = {
            queue: obstacle for queue, obstacle in self._obstacles.items()
            if queue in due and queue not in ready
        }  # fmt: skip
        if not ready:
            return ()
        rooms, obstacles = find_rooms(ready, self.executor, force=force)
        for obstacle in obstacles:
            self._obstacles[obstacle.queue] = obstacle
            if obstacle.is_costly:
                self._note_failure(obstacle.queue)
        return rooms

    def _note_failure(self, queue: Queue) -> None:
        pause = _RETRY_SECONDS[min(self._failures[queue], len(_RETRY_SECONDS) - 1)]
        self._retry_at[queue] = time.monotonic() + pause
        self._failures[queue] += 1

    def publish(self, claimed: Iterable[ClaimedRun]) -> None:
        """Publish runs that were claimed; those that cannot be published are withdrawn."""
        by_executor: dict[str, list[ClaimedRun]] = {}
        for item in claimed:
            by_executor.setdefault(item.executor, []).append(item)
        failed: dict[int, str] = {}
        for name, items in by_executor.items():
            failed |= self._start(name, [order_of(item) for item in items])
            for item in items:
                if item.run.pk not in failed:
                    self.outstanding[item.run.pk] = item
                else:
                    run_transaction(partial(withdraw, order_of(item), failed[item.run.pk]))
        self.rest()

    def _start(self, name: str, orders: list[RunOrder]) -> dict[int, str]:
        try:
            failed = dict(self.executor(name).start(orders))
        except ExecutorNotReady as error:
            failed = {order.run: str(error) for order in orders}
        bad = {Queue(name, order.queue) for order in orders if order.run in failed}
        for queue in {Queue(name, order.queue) for order in orders} - bad:
            self._failures.pop(queue, None)
        for queue in bad:
            self._note_failure(queue)
        if failed:
            reason = next(iter(failed.values()))
            logger.warning(
                "%d runs were not published: %s", len(failed), reason, extra=log_context()
            )
        return failed

    def rest(self) -> None:
        """Release what is not needed until the next claim."""
        for executor in self._executors.values():
            executor.close()

    def explain(self, now: datetime, host: str) -> None:
        """Store why due jobs are not published."""
        explain_obstacles(self._obstacles.values(), now, host)

    # --- runs that workers execute ---

    def watch(self, clock: datetime) -> bool:
        """Look which runs have ended, a few times a second; whether one has."""
        now = time.monotonic()
        if not self.outstanding or now - self._watched_at < _WATCH_SECONDS:
            return False
        self._watched_at = now
        before = len(self.outstanding)
        keys = list(self.outstanding)
        for at in range(0, len(keys), _BATCH):
            self._look_at(keys[at : at + _BATCH], clock)
        return len(self.outstanding) < before

    def _look_at(self, keys: list[int], clock: datetime) -> None:
        stopped = JobState.objects.queued().filter(
            current_run__in=keys, stop_requested_at__isnull=False
        )
        for state in stopped.select_related("job", "current_run"):
            self._end_stopped(state, clock)
        rows = Run.objects.in_bulk(keys)
        for key in keys:
            run = rows.get(key)
            if run is not None and run.status == RunStatus.RUNNING:
                continue
            item = self.outstanding.pop(key)
            if run is not None:
                self._on_recorded(_finished(item, run))

    def notifications_wait(self, now: datetime) -> bool:
        """Whether a worker has left notifications to send."""
        return Notification.objects.due(now).exists()

    def request_stops(self) -> None:
        """Ask the workers to stop the runs of this scheduler."""
        JobState.objects.filter(current_run__in=list(self.outstanding)).request_stop()

    # --- orders that no worker has taken ---

    def recover(self, now: datetime) -> None:
        """Publish again what no worker has taken, or withdraw it if none can."""
        states = JobState.objects.queued().filter(pk__in=JobState.objects.stale().values("pk"))
        capacities = worker_capacities()
        for state in states.select_related("job", "current_run")[:_BATCH]:
            if state.current_run is None:
                run_transaction(partial(_release, state))
                continue
            order = _order_of_state(state)
            queue = Queue(state.queued_executor, order.queue)
            if state.stop_requested_at is not None:
                self._end_stopped(state, now)
                continue
            obstacle = self._obstacle(queue, capacities[queue])
            if obstacle:
                run_transaction(partial(withdraw, order, obstacle))
                continue
            self._publish_again(state, order, queue, now)
        self.rest()

    def _end_stopped(self, state: JobState, now: datetime) -> None:
        """End a run that a person has stopped before a worker took it."""
        assert state.current_run is not None and state.lease_token is not None
        outcome = Outcome(RunStatus.STOPPED, "Stopped on request, before a worker took it.")
        ended = FinishedRun(
            state, state.job, state.current_run, state.lease_token, outcome, now, False
        )
        if run_transaction(partial(end_run, ended)):
            self._on_stopped(ended)

    def _obstacle(self, queue: Queue, processes: int) -> str:
        try:
            executor = self.executor(queue.executor)
            if executor.capacity(queue.name) is None and not processes:
                return no_worker(queue)
            executor.check()
        except ExecutorNotReady as error:
            return str(error)
        return ""

    def _publish_again(self, state: JobState, order: RunOrder, queue: Queue, now: datetime) -> None:
        """Publish an order that is late or lost: later and later, because it may only be late."""
        assert state.current_run is not None and state.current_run.started_at is not None
        waited = now - state.current_run.started_at
        pause = max(conf.LEASE_SECONDS, waited.total_seconds())
        if not run_transaction(partial(postpone, order, pause)):
            return  # it was taken, or another scheduler publishes it
        failed = self._start(queue.executor, [order])
        if failed:
            run_transaction(partial(withdraw, order, failed[order.run]))
        elif waited >= timedelta(seconds=conf.OVERDUE_SECONDS):
            run_transaction(partial(open_waiting, state, queue.name, now))

    def close(self) -> None:
        """Release all resources. What was published stays so."""
        self.rest()
        self.outstanding.clear()


def _order_of_state(state: JobState) -> RunOrder:
    assert state.lease_token is not None and state.current_run_id is not None
    return RunOrder(state.current_run_id, state.lease_token, state.fence, state.job.effective_queue)


def _finished(item: ClaimedRun, run: Run) -> FinishedRun:
    """What a worker has recorded."""
    run.job = item.job
    outcome = Outcome(
        RunStatus(run.status), run.error, run.exit_code, run.signal, run.duration_seconds,
        run.cpu_seconds, run.max_rss_bytes,
    )  # fmt: skip
    assert run.ended_at is not None
    return FinishedRun(
        item.state, item.job, run, item.token, outcome, run.ended_at, item.has_downstream
    )


def _release(state: JobState) -> None:
    """Release a state whose run was deleted."""
    JobState.objects.queued().filter(pk=state.pk, lease_token=state.lease_token).update(
        lease_token=None, lease_expires_at=None, lease_host="", lease_owner=""
    )
