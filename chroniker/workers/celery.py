"""In a Celery worker: the task that executes a run, and the report that the worker is alive.

:class:`~chroniker.apps.ChronikerConfig` imports this module where Celery is in use, so a site needs
to configure nothing but its Celery app.
"""

from __future__ import annotations

import logging
import mmap
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from celery import shared_task, signals

from chroniker.executors.celery import TASK

if TYPE_CHECKING:
    from celery import Task
    from celery.worker.consumer import Consumer

logger = logging.getLogger(__name__)

_NO_LIMIT_SECONDS = 10 * 365 * 24 * 3600
"""A time limit of the site is not for this task: it would kill the process that guards a run."""
_POOLS = ("prefork", "solo")
"""The pools whose tasks run in the main thread of a process, one at a time."""


@shared_task(
    name=TASK,
    bind=True,
    ignore_result=True,
    max_retries=None,
    time_limit=_NO_LIMIT_SECONDS,
    soft_time_limit=_NO_LIMIT_SECONDS,
)
def run(self: Task, order: Mapping[str, int | str]) -> str:
    """Execute the run of an order; return its status, or "" if there was nothing to do.

    While the database cannot be reached, the order is tried again every few seconds.
    """
    from django.db import DatabaseError, InterfaceError

    from chroniker.engine.worker import execute_order
    from chroniker.executors.base import RunOrder

    try:
        return execute_order(
            RunOrder.load(order), self.request.hostname, shutting_down=presence.is_shutting_down
        )
    except (DatabaseError, InterfaceError) as error:
        raise self.retry(exc=error, countdown=5) from error


class Presence:
    """Reports in the database that this worker is alive, from a thread of its main process."""

    def __init__(self) -> None:
        self._flag = mmap.mmap(-1, mmap.PAGESIZE)
        """Shared with the processes of the pool: 1 once the worker shuts down."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def is_shutting_down(self) -> bool:
        """Whether the worker shuts down; in the processes of its pool, too."""
        return self._flag[0] == 1

    def start(self, consumer: Consumer) -> None:
        """Begin to report. Does nothing for a pool that cannot guard runs."""
        pool = consumer.controller.pool_cls.__module__.rpartition(".")[2]
        if pool not in _POOLS:
            logger.error(
                "Chroniker runs no jobs in this worker, because its pool is %s. Start it with "
                "--pool=prefork.",
                pool,
            )
            return
        self._thread = threading.Thread(
            target=self._report, args=(consumer,), name="chroniker-presence", daemon=True
        )
        self._thread.start()

    def _report(self, consumer: Consumer) -> None:
        from chroniker.conf import conf

        while not self._stop.is_set():
            self._record(consumer)
            self._stop.wait(conf.LEASE_RENEW_SECONDS)
        self._record(consumer, gone=True)

    def _record(self, consumer: Consumer, *, gone: bool = False) -> None:
        from django.db import DatabaseError, InterfaceError, connections

        from chroniker import __version__
        from chroniker.conf import CELERY
        from chroniker.models import Worker

        try:
            if gone:
                Worker.objects.filter(name=consumer.hostname).delete()
            elif queues := _queues(consumer):
                Worker.objects.record(
                    consumer.hostname, CELERY, queues, _processes(consumer), __version__
                )
        except (DatabaseError, InterfaceError) as error:
            logger.warning("The worker could not report that it is alive: %s", error)
        except Exception:  # this thread must not end: the worker would get no more runs, silently
            logger.exception(
                "The worker could not report that it is alive, and gets no runs until it can"
            )
        finally:
            connections.close_all()  # of this thread

    def end(self) -> None:
        """Report that this worker takes no more runs, and let those that it executes end."""
        self._flag[0] = 1
        self._stop.set()


def _queues(consumer: Consumer) -> list[str]:
    """The queues that the worker consumes now; none while it has lost the broker."""
    tasks = getattr(consumer, "task_consumer", None)
    connection = getattr(consumer, "connection", None)
    if tasks is None or connection is None or not connection.connected:
        return []
    return sorted({queue.name for queue in tasks.queues})


def _processes(consumer: Consumer) -> int:
    return int(getattr(consumer.pool, "num_processes", 0) or 1)


presence = Presence()


def _preload(**kwargs: object) -> None:
    from chroniker.engine import worker  # noqa: F401  # before the pool is forked


def _start(sender: Consumer, **kwargs: object) -> None:
    presence.start(sender)


def _end(**kwargs: object) -> None:
    presence.end()


def _release(**kwargs: object) -> None:
    from chroniker.engine.worker import release_worker

    release_worker()


signals.worker_init.connect(_preload, dispatch_uid="chroniker")
signals.worker_ready.connect(_start, dispatch_uid="chroniker")
signals.worker_shutting_down.connect(_end, dispatch_uid="chroniker")
signals.worker_process_shutdown.connect(_release, dispatch_uid="chroniker")
