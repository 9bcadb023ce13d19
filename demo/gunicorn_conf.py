"""Two workers, so that what ``/metrics`` shows cannot be the memory of one of them."""

from __future__ import annotations

from typing import Any

from prometheus_client import multiprocess

workers = 2
threads = 2
graceful_timeout = 5
control_socket_disable = True  # it would be in the home directory


def child_exit(server: Any, worker: Any) -> None:
    """Let the gauges of a worker go with it; its counters stay."""
    multiprocess.mark_process_dead(worker.pid)
