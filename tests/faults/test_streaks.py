"""Failed slots in a row, from histories made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.history import RunChange, RunFacts
from tests.faults.streaks import failed_slots_in_a_row

BEGUN = RunFacts(run=1, job=1, host="", slot=1, attempt=1, trigger="schedule", status="running")


def attempt(slot: int, number: int, status: str, trigger: str = "") -> list[RunChange]:
    begun = replace(
        BEGUN, slot=slot, attempt=number, trigger=trigger or ("retry" if number > 1 else "schedule")
    )
    return [RunChange(None, begun), RunChange("running", replace(begun, status=status))]


@pytest.mark.parametrize(
    ("history", "count"),
    [
        ([attempt(1, 1, "failed")], 0),
        ([attempt(1, 1, "failed"), attempt(1, 2, "lost")], 1),
        ([attempt(1, 1, "failed"), attempt(1, 2, "failed"), attempt(2, 1, "succeeded")], 0),
        ([attempt(1, 1, "failed"), attempt(2, 1, "failed")], 1),
        ([attempt(1, 1, "failed"), attempt(2, 1, "failed"), attempt(2, 2, "timed_out")], 2),
        ([attempt(1, 1, "stopped"), attempt(2, 1, "interrupted")], 0),
        ([attempt(1, 1, "failed", "manual")], 1),
        ([attempt(1, 1, "failed"), attempt(5, 1, "failed", "manual")], 1),
        (
            [
                attempt(1, 1, "failed"),
                attempt(5, 1, "succeeded", "manual"),
                attempt(2, 1, "failed"),
            ],
            1,
        ),
    ],
)
def test_slots_count_and_not_attempts(history: list[list[RunChange]], count: int) -> None:
    changes = [change for run in history for change in run]
    assert failed_slots_in_a_row(changes, {1: 1}, set())[1, ""] == count


def test_interruption_spends_no_retry() -> None:
    history = [
        *attempt(1, 1, "interrupted"),
        *attempt(1, 2, "failed", "schedule"),
        *attempt(1, 3, "failed"),
    ]
    assert failed_slots_in_a_row(history[:4], {1: 1}, {(1, "", 1, 1)})[1, ""] == 0
    assert failed_slots_in_a_row(history, {1: 1}, {(1, "", 1, 1)})[1, ""] == 1


def test_missed_slot_takes_the_place_of_a_retry() -> None:
    missed = replace(BEGUN, slot=2, attempt=0, status="missed", missed_slots=1)
    assert failed_slots_in_a_row(
        [*attempt(1, 1, "failed"), RunChange(None, missed)], {1: 1}, set()
    )[1, ""] == 1  # fmt: skip
