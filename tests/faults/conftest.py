"""The fault tests: ``make faults``, or ``pytest -m faults``; without the marker they are left out.

Each kind of database has one process of its own (``python -m tests.faults --serve``), which
performs one experiment after the other. Replay: ``CHRONIKER_FAULT_SEED=N make faults``, or by hand
the line that a failing test prints.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.processes import processes as support

BACKENDS = ("postgres", "mariadb", "sqlite")
LONG = bool(os.environ.get("CHRONIKER_FAULTS_LONG"))
Perform = Callable[..., dict[str, Any]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "faults: experiments with killed processes and lost databases; minutes long"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "faults" in str(config.option.markexpr):
        # One kind of database in each process, where they are to run side by side.
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


def seed() -> int:
    """The one that is asked for, or a new one each time."""
    return int(os.environ.get("CHRONIKER_FAULT_SEED") or random.SystemRandom().randrange(1, 10**6))


class FaultProcess:
    """A process that performs experiments on one kind of database."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults", backend, "--serve"],
            cwd=support.REPO,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def perform(self, scenario: str, *, mutant: str = "", **options: Any) -> dict[str, Any]:
        """Perform one and return its report; what it says is also printed."""
        assert self._process.stdin and self._process.stdout
        order = {"scenario": scenario, "seed": seed(), "mutant": mutant, "options": options}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the fault_process ended with {self._process.wait(10)}"
        report: dict[str, Any] = json.loads(line)
        if "error" in report:
            pytest.fail(report["error"])
        words = " ".join(f"{key}={json.dumps(value)}" for key, value in options.items())
        print(
            f"\nagain: scripts/with-services .venv/bin/python -m tests.faults {self.backend} "
            f"{scenario} {words} --seed {order['seed']}" + (f" --mutant {mutant}" if mutant else "")
        )
        print(json.dumps(report, indent=1))
        return report

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(30)
        assert self._process.stdout
        self._process.stdout.close()


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
    """``fault_process(backend)``: made when it is first asked for."""

    def get(backend: str) -> FaultProcess:
        if backend != "sqlite":
            support.require(backend)
        if backend not in _fault_processes:
            _fault_processes[backend] = FaultProcess(backend)
        return _fault_processes[backend]

    return get
