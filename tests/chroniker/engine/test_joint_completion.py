"""Ends that are written together, and what a batch runner does to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker import extensions
from chroniker.batches import BatchEnd
from chroniker.db.transactions import run_transaction
from chroniker.engine.completion import FinishedRun
from chroniker.engine.joint_completion import end_runs
from chroniker.engine.reaper import reap
from chroniker.enums import RunStatus
from chroniker.models import Host, Job, JobState, Run
from chroniker.processes.running_child import Outcome
from tests.factories import make_job
from tests.support.timeline import Timeline

pytestmark = pytest.mark.django_db(transaction=True)


class PoisonRunner:
    """Writes the name of each job as a host, and then raises for one of them."""

    def record(self, ends: Sequence[BatchEnd]) -> None:
        for end in ends:
            Host.objects.create(name=end.job.name)
            if end.job.name == "poison":
                raise ValueError("poison")


@pytest.fixture(autouse=True)
def poison_runner(monkeypatch: Any) -> Iterator[None]:
    monkeypatch.setattr(extensions, "_runners", {})
    extensions.register_batch_runner("poison", f"{__name__}.PoisonRunner")
    yield


def make_ends() -> list[FinishedRun]:
    """Three runs of a batch that have ended; the second is poison."""
    ends = []
    for name in ("first", "poison", "third"):
        job = make_job(name=name)
        Job.objects.filter(pk=job.pk).update(batch="poison")
        item = Timeline("web1").start(job)
        ends.append(
            FinishedRun(
                state=item.state, job=item.job, run=item.run, token=item.token,
                outcome=Outcome(RunStatus.SUCCEEDED, ""), ended_at=utc_now(),
                has_downstream=False, batch="poison", payload={"x": 1},
            )
        )  # fmt: skip
    return ends


def recorded_names() -> set[str]:
    return set(Host.objects.values_list("name", flat=True)) - {"web1"}


def test_run_that_cannot_be_recorded_ends_without_a_record(caplog: Any) -> None:
    ends = make_ends()
    assert run_transaction(lambda: end_runs(ends)) == [True, True, True]
    assert set(Run.objects.values_list("status", flat=True)) == {"succeeded"}
    assert set(JobState.objects.values_list("lease_token", flat=True)) == {None}
    assert recorded_names() == {"first", "third"}, "what it wrote itself is undone"
    assert f"What run {ends[1].run.pk} of job poison gave was not recorded" in caplog.text


def test_lost_run_that_cannot_be_recorded_is_ended() -> None:
    make_ends()
    JobState.objects.update(lease_expires_at=utc_now() - timedelta(days=1), lease_owner="gone")
    assert len(reap("web1", utc_now(), stale=True)) == 3
    assert set(Run.objects.values_list("status", flat=True)) == {"lost"}
    assert recorded_names() == {"first", "third"}
