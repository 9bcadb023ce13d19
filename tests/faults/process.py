"""A process that performs experiments on one kind of database."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import Any, Protocol

import pytest

from tests.faults.deployment import Deployment
from tests.support.machine import REPO

BACKENDS = ("postgres", "mariadb", "sqlite")

LONG = bool(os.environ.get("CHRONIKER_FAULTS_LONG"))


def seed() -> int:
    """The seed from the environment, or a new random one."""
    return int(os.environ.get("CHRONIKER_FAULT_SEED") or random.SystemRandom().randrange(1, 10**6))


class FaultProcess:
    """A process that performs experiments on one kind of database, deployed in one way."""

    def __init__(self, backend: str, deployment: str = Deployment.DIRECT) -> None:
        self.backend = backend
        self.deployment = deployment
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults", backend, "--serve", "--deployment", deployment],
            cwd=REPO,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def perform(self, scenario: str, *, mutant: str = "", **options: Any) -> dict[str, Any]:
        """Perform an experiment; its report, which is also printed."""
        assert self._process.stdin and self._process.stdout
        order = {"scenario": scenario, "seed": seed(), "mutant": mutant, "options": options}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the fault_process ended with {self._process.wait(10)}"
        report: dict[str, Any] = json.loads(line)
        if "error" in report:
            pytest.fail(report["error"])
        if "lease" in report:  # it depends on the machine, and the plan on it
            options["lease"] = report["lease"]
        words = " ".join(f"{key}={json.dumps(value)}" for key, value in options.items())
        if self.deployment != Deployment.DIRECT:
            words += f" --deployment {self.deployment}"
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


class GetFaultProcess(Protocol):
    """``fault_process(backend, deployment)``: started on first use."""

    def __call__(self, backend: str, deployment: str = ...) -> FaultProcess: ...
