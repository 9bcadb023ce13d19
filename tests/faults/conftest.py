"""The fault tests: ``make faults``, or ``pytest -m faults``; deselected without the marker.

Each kind of database has one process of its own (``python -m tests.faults --serve``), which
performs one experiment after the other; other deployments have one for each test. Replay:
``CHRONIKER_FAULT_SEED=N make faults``, or by hand the line that a failing test prints.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.faults.deployment import Deployment
from tests.faults.process import BACKENDS, LONG, FaultProcess, GetFaultProcess
from tests.support.machine import require

GROUPS = (*BACKENDS, "workers")
"""What ``CHRONIKER_FAULT_BACKENDS`` chooses from: kinds of databases, and Celery workers."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "faults" in str(config.option.markexpr):
        # One kind of database per process: they can run in parallel.
        chosen = (os.environ.get("CHRONIKER_FAULT_BACKENDS") or " ".join(GROUPS)).split()
        others = [
            item for item in items
            if _backend_of(item) not in (None, *chosen) or (LONG and not _is_long(item))
        ]  # fmt: skip
    else:
        others = [item for item in items if item.get_closest_marker("faults")]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def _is_long(item: pytest.Item) -> bool:
    """Whether a test is part of ``make faults-long``; the others have been run before it."""
    mark = item.get_closest_marker("faults")
    return mark is None or bool(mark.kwargs.get("long"))


def _backend_of(item: pytest.Item) -> str | None:
    mark = item.get_closest_marker("xdist_group")
    return mark.args[0] if mark else None


@pytest.fixture(scope="session")
def _direct_processes() -> Iterator[dict[str, FaultProcess]]:
    processes: dict[str, FaultProcess] = {}
    yield processes
    for process in processes.values():
        process.close()


@pytest.fixture
def fault_process(_direct_processes: dict[str, FaultProcess]) -> Iterator[GetFaultProcess]:
    """``fault_process(backend, deployment)``: started on first use."""
    others: dict[tuple[str, str], FaultProcess] = {}

    def get(backend: str, deployment: str = Deployment.DIRECT) -> FaultProcess:
        if backend != "sqlite":
            require(backend)
        if deployment == Deployment.DIRECT:
            if backend not in _direct_processes:
                _direct_processes[backend] = FaultProcess(backend)
            return _direct_processes[backend]
        if Deployment(deployment).pool_mode:
            require("pgbouncer")
        key = backend, deployment
        if key not in others:
            others[key] = FaultProcess(*key)
        return others[key]

    yield get
    for process in others.values():  # each has servers of its own
        process.close()
