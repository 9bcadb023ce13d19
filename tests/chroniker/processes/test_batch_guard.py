"""The guard of a batch: what it does before its workers execute anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.db import OperationalError

from chroniker import extensions
from chroniker.batches import BatchEnd, BatchItem, ItemResult
from chroniker.models import Job, Run
from tests.factories import make_due_job
from tests.support.types import RunTick

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]


class FlakyRunner:
    """Cannot load its items a few times."""

    calls: ClassVar[Path]
    """Grows by a byte with each call, in whatever process."""
    failures: ClassVar[int]
    error: ClassVar[Exception]

    def load(self, items: Sequence[BatchItem]) -> Sequence[object]:
        with self.calls.open("a") as file:
            file.write("x")
        if self.calls.stat().st_size <= self.failures:
            raise self.error
        return items

    def run(self, task: object) -> ItemResult:
        return ItemResult({"done": True})

    def record(self, ends: Sequence[BatchEnd]) -> None:
        pass


@pytest.fixture(autouse=True)
def flaky_jobs(monkeypatch: Any, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(extensions, "_runners", {})
    extensions.register_batch_runner("flaky", f"{__name__}.FlakyRunner")
    FlakyRunner.calls = tmp_path / "calls"
    for _ in range(3):
        make_due_job()
    Job.objects.update(batch="flaky")
    yield


@pytest.mark.parametrize(
    ("error", "failures", "statuses"),
    [
        (OperationalError("FATAL: sorry, too many clients already"), 2, {"succeeded"}),
        (ValueError("it is the wrong moment"), 1, {"succeeded"}),
        (ValueError("it is always the wrong moment"), 9, {"failed"}),
    ],
)
def test_items_are_loaded_again(
    run_tick: RunTick, error: Exception, failures: int, statuses: set[str]
) -> None:
    FlakyRunner.error, FlakyRunner.failures = error, failures
    run_tick()
    assert set(Run.objects.values_list("status", flat=True)) == statuses
    assert Run.objects.count() == 3
    assert FlakyRunner.calls.stat().st_size == (failures + 1 if failures < 9 else 2)
