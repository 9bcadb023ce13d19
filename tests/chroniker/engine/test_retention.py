"""Old runs are deleted in small batches that block no running job and change no counter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.models import signals
from django.utils.timezone import now

from chroniker.alerting.retention import delete_old_incidents
from chroniker.engine.completion import FinishedRun, end_run
from chroniker.engine.output_store import append_output, store_progress
from chroniker.engine.retention import prune_jobs, prune_runs
from chroniker.enums import IncidentKind, RunStatus
from chroniker.models import Incident, Job, JobState, OutputChunk, Run
from chroniker.processes.output import OutputBatch, OutputPiece
from chroniker.processes.running_child import Outcome
from tests.factories import make_job, make_run, make_subscribed_job
from tests.support.mail_server import MailServer
from tests.support.timeline import Timeline
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db(transaction=True)

OLD = 60
BATCH = 25
TOKEN = "the token of its tick"

COUNTERS = [
    field.name
    for field in JobState._meta.local_concrete_fields
    if (
        field.name.endswith(("s_total", "_sum", "_count", "_buckets"))
        and field.name != "parts_total"
    )
    or field.name.startswith(("failures_", "missed_"))
]


def make_running_job_with_history() -> tuple[Job, JobState, Run]:
    job = make_job(max_runs_kept=0)
    long_ago = now() - timedelta(days=100)
    old: list[Run] = []
    for number in range(OLD):
        at = long_ago + timedelta(minutes=number)
        run = Run.objects.create(
            job=job, scheduled_for=at, started_at=at, ended_at=at, status=RunStatus.SUCCEEDED
        )
        old.append(run)
        OutputChunk.objects.create(
            run=run, stream="stdout", offset=0, size=3, text="old", written_at=at
        )
    running = Run.objects.create(job=job, scheduled_for=now(), started_at=now())
    state = JobState.objects.create(
        job=job,
        last_run=old[0],  # long ended, and in the first batch
        last_status=RunStatus.SUCCEEDED,
        current_run=running,
        lease_token=TOKEN,
        lease_expires_at=now() + timedelta(hours=1),
        **dict.fromkeys((name for name in COUNTERS if not name.endswith("_buckets")), OLD),
        duration_buckets={"1": OLD},
        start_lag_buckets={"1": OLD},
    )
    return job, state, running


def counters(state: JobState) -> dict[str, Any]:
    return JobState.objects.filter(pk=state.pk).values(*COUNTERS).get()


def set_short_lock_timeout() -> None:
    """Waiting for a lock raises an error instead of blocking the test."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET lock_timeout = '3s'")
        elif connection.vendor == "mysql":
            cursor.execute("SET innodb_lock_wait_timeout = 3")


def prune_by_number(job: Job) -> None:
    prune_runs(job, 1)


def prune_by_age(job: Job) -> None:
    call_command("cron_clean", "days", "30", verbosity=0)


@pytest.mark.parametrize("prune", [prune_by_number, prune_by_age])
def test_pruning_batch_does_not_block_a_running_job(
    prune: Callable[[Job], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time: there it is the batches that are short")
    monkeypatch.setattr("chroniker.engine.retention._DELETE_BATCH", BATCH)
    job, state, running = make_running_job_with_history()
    incident = Incident.objects.create(
        job=job, kind=IncidentKind.FAILING, severity="critical", opened_at=now(),
        last_seen_at=now(), first_run=state.last_run, last_run=state.last_run,
    )  # fmt: skip
    JobState.objects.update(failing_incident=True)
    state.refresh_from_db()
    before = counters(state)
    in_the_middle, go_on = threading.Event(), threading.Event()
    statements = 0

    def hold(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """Run the deletion and keep its locks."""
        nonlocal statements
        done = execute(sql, params, many, context)
        if sql.startswith("DELETE") and "chroniker_run" in sql and "jobstate" not in sql:
            statements += 1
            assert connection.in_atomic_block
            in_the_middle.set()
            assert go_on.wait(60)
        return done

    def clean() -> None:
        try:
            with connection.execute_wrapper(hold):
                prune(job)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        cleaning = pool.submit(clean)
        try:
            assert in_the_middle.wait(30)
            set_short_lock_timeout()
            assert JobState.objects.renew([TOKEN], 60) == 1
            assert store_progress(state.pk, TOKEN, (10, 4), now())
            new = OutputBatch([OutputPiece("stdout", 0, 3, "new")])
            with transaction.atomic():
                assert append_output(state.pk, TOKEN, running.pk, new, now())
            assert counters(state) == before
            end = FinishedRun(
                state=state,
                job=job,
                run=running,
                token=TOKEN,
                outcome=Outcome(RunStatus.SUCCEEDED, seconds=0.5),
                ended_at=now(),
                has_downstream=False,
            )
            with transaction.atomic():
                assert end_run(end)
            after = counters(state)
            assert after["runs_total"] == after["duration_count"] == OLD + 1
            assert not cleaning.done()
        finally:
            go_on.set()
        cleaning.result(60)

    incident.refresh_from_db()
    assert incident.resolved_at is not None and incident.first_run is None
    assert statements == 3  # 60 runs in batches of 25
    assert counters(state) == after
    assert list(Run.objects.values_list("pk", "status")) == [(running.pk, RunStatus.SUCCEEDED)]
    assert OutputChunk.objects.get().text == "new"
    state.refresh_from_db()
    assert state.last_run == running and state.lease_token is None


@pytest.mark.parametrize("prune", [prune_by_number, prune_by_age])
def test_pruning_keeps_counters_and_running_runs(prune: Callable[[Job], None]) -> None:
    job, state, running = make_running_job_with_history()
    before = counters(state)
    prune(job)
    assert counters(state) == before
    assert Run.objects.get() == running
    state.refresh_from_db()
    assert (state.current_run, state.lease_token, state.last_run) == (running, TOKEN, None)


def test_max_runs_kept_is_enforced(run_tick: RunTick) -> None:
    job, other = make_job(max_runs_kept=3), make_job(max_runs_kept=None)
    run_tick()
    for _ in range(6):
        JobState.objects.all().request_run(now())
        run_tick()
    assert Run.objects.filter(job=job).count() == 3
    assert Run.objects.filter(job=other).count() == 6
    assert JobState.objects.get(job=job).runs_total == 6


def test_old_resolved_incidents_are_deleted_with_their_notifications(
    mail_server: MailServer,
) -> None:
    old, waiting, still = (make_subscribed_job(name) for name in ("ann", "bob", "cleo"))
    timeline = Timeline()
    timeline.run(old, "FS")
    mail_server.refuse.add("bob@example.com")
    timeline.run(waiting, "FS")
    timeline.run(still, "F")
    assert delete_old_incidents(timeline.now) == 1
    assert {run_once.job for run_once in Incident.objects.all()} == {waiting, still}
    mail_server.refuse.clear()
    for _ in range(3):
        timeline.advance(hours=1).send()
    timeline.run(still, "S")
    assert [str(mail["To"]) for mail in mail_server.mails].count("bob@example.com") == 2
    assert mail_server.event_names()[-1] == "resolved"


class TestPruneRuns:
    def make_runs(self, number: int) -> tuple[Job, list[int]]:
        job = make_job()
        return job, [make_run(job).pk for _ in range(number)]

    def kept(self, job: Job) -> list[int]:
        return list(Run.objects.filter(job=job).order_by("pk").values_list("pk", flat=True))

    @pytest.mark.parametrize(("keep", "deleted"), [(0, 5), (1, 4), (4, 1), (5, 0), (9, 0)])
    def test_newest_runs_are_kept_and_the_others_counted(self, keep: int, deleted: int) -> None:
        job, keys = self.make_runs(5)
        _other, others = self.make_runs(2)
        assert prune_runs(job, keep) == deleted
        assert self.kept(job) == keys[deleted:]
        assert self.kept(_other) == others

    def test_deletion_goes_on_over_several_batches(self, monkeypatch: Any) -> None:
        monkeypatch.setattr("chroniker.engine.retention._DELETE_BATCH", 2)
        job, keys = self.make_runs(6)
        assert prune_runs(job, 1) == 5
        assert self.kept(job) == keys[-1:]

    @pytest.mark.parametrize("together", [False, True])
    def test_deletion_stops_after_its_time(self, monkeypatch: Any, together: bool) -> None:
        monkeypatch.setattr("chroniker.engine.retention._DELETE_BATCH", 2)
        monkeypatch.setattr("chroniker.engine.retention._PRUNE_SECONDS", 1e-4)
        job, keys = self.make_runs(6)
        assert (prune_jobs({job.pk: 1}) if together else prune_runs(job, 1)) == 2
        assert self.kept(job) == keys[2:]


@pytest.mark.one_database
def test_receivers_of_the_site_get_each_deleted_run() -> None:
    deleted: list[int] = []

    def receive(sender: object, instance: Run, **kwargs: object) -> None:
        deleted.append(instance.pk)

    job, _, _ = make_running_job_with_history()
    keys = list(Run.objects.ended().values_list("pk", flat=True))
    signals.post_delete.connect(receive, sender=Run)
    try:
        prune_runs(job, keep=0)
    finally:
        signals.post_delete.disconnect(receive, sender=Run)
    assert sorted(deleted) == sorted(keys)
    assert not OutputChunk.objects.filter(run__in=keys).exists()
