"""Two workers, so that ``/metrics`` has to combine the metrics of several processes."""

from __future__ import annotations

from typing import Protocol

from prometheus_client import multiprocess


class _Worker(Protocol):
    pid: int


workers = 2
threads = 2
graceful_timeout = 5
control_socket_disable = True  # the socket would be in the home directory


def child_exit(server: object, worker: _Worker) -> None:
    """Remove the gauges of a worker that has ended; its counters stay."""
    multiprocess.mark_process_dead(worker.pid)
