"""The fault tests: ``make faults``, or ``pytest -m faults``; deselected without the marker.

Each kind of database has one process of its own (``python -m tests.faults --serve``), which
performs one experiment after the other. Replay: ``CHRONIKER_FAULT_SEED=N make faults``, or by hand
the line that a failing test prints.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.process import BACKENDS, FaultProcess
from tests.support.machine import require

Perform = Callable[..., dict[str, Any]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "faults" in str(config.option.markexpr):
        # One kind of database per process: they can run in parallel.
        chosen = (os.environ.get("CHRONIKER_FAULT_BACKENDS") or " ".join(BACKENDS)).split()
        others = [item for item in items if _backend_of(item) not in (None, *chosen)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
        return
    left_out = [item for item in items if item.get_closest_marker("faults")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("faults")]


def _backend_of(item: pytest.Item) -> str | None:
    mark = item.get_closest_marker("xdist_group")
    return mark.args[0] if mark else None


_fault_processes: dict[str, FaultProcess] = {}


@pytest.fixture(scope="session")
def _session_fault_processes() -> Iterator[dict[str, FaultProcess]]:
    yield _fault_processes
    for fault_process in _fault_processes.values():
        fault_process.close()
    _fault_processes.clear()


@pytest.fixture
def fault_process(
    _session_fault_processes: dict[str, FaultProcess],
) -> Callable[[str], FaultProcess]:
    """``fault_process(backend)``: started on first use."""

    def get(backend: str) -> FaultProcess:
        if backend != "sqlite":
            require(backend)
        if backend not in _fault_processes:
            _fault_processes[backend] = FaultProcess(backend)
        return _fault_processes[backend]

    return get
