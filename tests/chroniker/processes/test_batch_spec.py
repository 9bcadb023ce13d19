"""What is sent to the process of a batch, and the page that it shares with the scheduler."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroniker.processes.batch_spec import (
    MAX_ITEMS,
    MAX_WORKERS,
    BatchEntry,
    BatchPage,
    BatchSpec,
)
from chroniker.processes.child import CommandSpec
from chroniker.progress import PAGE_BYTES

SPEC = CommandSpec(
    7, "a job", "check_monitor", ("--job-id", "3"), "INFO", "%(message)s",
    "2026-05-04T12:00:00Z", 1, "schedule", 12,
)  # fmt: skip


def test_batch_survives_the_pipe() -> None:
    batch = BatchSpec("monitors", (BatchEntry(SPEC, 3, "web1", 30, 2.0),), 8)
    assert BatchSpec.load(json.loads(json.dumps(batch.dump()))) == batch


@given(st.sets(st.integers(0, MAX_ITEMS - 1)))
def test_requests_to_stop_are_read_as_they_were_written(items: set[int]) -> None:
    page = BatchPage(bytearray(PAGE_BYTES))
    for item in items:
        page.stop(item)
    assert set(page.stopped()) == items
    assert page.in_progress() == set()


@given(st.dictionaries(st.integers(0, MAX_WORKERS - 1), st.integers(0, MAX_ITEMS - 1)))
def test_items_in_progress_are_known_by_slot(items: dict[int, int]) -> None:
    page = BatchPage(bytearray(PAGE_BYTES))
    for slot, item in items.items():
        page.begin(slot, item)
    assert page.in_progress() == set(items.values())
    assert not list(page.stopped())
    for slot in items:
        page.end(slot)
    assert page.in_progress() == set()


@pytest.mark.parametrize("slot", [0, MAX_WORKERS - 1])
def test_worker_has_one_item(slot: int) -> None:
    page = BatchPage(bytearray(PAGE_BYTES))
    page.begin(slot, 5)
    page.begin(slot, MAX_ITEMS - 1)
    assert page.in_progress() == {MAX_ITEMS - 1}
