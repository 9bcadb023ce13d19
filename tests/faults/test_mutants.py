"""The checker reports deliberate defects; otherwise its silence would prove nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.mutants import MUTANTS, Mutant, apply
from tests.faults.process import GetFaultProcess
from tests.support.types import RunInFork

PAIRS = [(mutant, backend) for mutant in MUTANTS for backend in mutant.backends]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_edit_finds_its_text(mutant: Mutant, run_in_fork: RunInFork) -> None:
    def edit() -> None:
        for each in mutant.edits:
            apply(each)

    ended: Any = run_in_fork(edit).wait()
    assert ended.exit_code == 0, ended.output


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("mutant", "backend"),
    [
        pytest.param(
            mutant,
            backend,
            marks=pytest.mark.xdist_group("workers" if mutant.scenario == "workers" else backend),
            id=f"{mutant.name}-{backend}",
        )
        for mutant, backend in PAIRS
    ],
)
def test_checker_catches(fault_process: GetFaultProcess, mutant: Mutant, backend: str) -> None:
    for _ in range(3):  # it depends on a race
        report = fault_process(backend, mutant.deployment).perform(
            mutant.scenario, mutant=mutant.name, **mutant.options
        )
        if mutant.expected & set(report["broken"]):
            return
    pytest.fail(f"{mutant.meaning}: nobody noticed; seen was {report['broken']}")
