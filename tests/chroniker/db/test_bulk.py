"""Many rows are changed in one statement, each with its own values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from chroniker.db.bulk import lock_owned, update_rows
from chroniker.enums import RunStatus
from chroniker.models import JobState, Run
from tests.factories import NOON, make_job
from tests.support.types import RunInFork

pytestmark = pytest.mark.django_db

VALUES: dict[str, Any] = {
    "last_error": "it's “broken” \\ 100 %s",
    "last_started_at": datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC),
    "last_duration_seconds": 1.25e-7,
    "last_max_rss_bytes": 2**62,
    "duration_buckets": {"0.1": 3, "5.0": 1},
    "failing_incident": True,
    "lease_token": None,
}


def make_states(number: int) -> list[JobState]:
    return [JobState.objects.create(job=make_job(), last_status="failed") for _ in range(number)]


def test_values_of_each_type_are_stored_as_the_orm_stores_them() -> None:
    ours, orm, untouched = make_states(3)
    update_rows(JobState, [(ours.pk, VALUES)])
    JobState.objects.filter(pk=orm.pk).update(**VALUES)
    for state in (ours, orm, untouched):
        state.refresh_from_db()
    for name in VALUES:
        assert getattr(ours, name) == getattr(orm, name) == VALUES[name]
    assert untouched.last_error == ""


def test_each_row_gets_its_own_values() -> None:
    states = make_states(7)
    moments = [NOON + timedelta(seconds=n) for n in range(7)]
    rows = [
        (state.pk, {"last_ended_at": moment, "last_error": str(n), "stop_requested_at": None})
        for n, (state, moment) in enumerate(zip(states, moments, strict=True))
    ]
    update_rows(JobState, rows)
    stored = JobState.objects.order_by("pk").values_list("last_ended_at", "last_error")
    assert list(stored) == [(moment, str(n)) for n, moment in enumerate(moments)]


def test_first_row_may_be_null() -> None:
    first, second = make_states(2)
    update_rows(
        JobState,
        [
            (first.pk, {"last_ended_at": None, "last_duration_seconds": None}),
            (second.pk, {"last_ended_at": NOON, "last_duration_seconds": 2.5}),
        ],
    )
    second.refresh_from_db()
    assert (second.last_ended_at, second.last_duration_seconds) == (NOON, 2.5)


def test_counters_increase_by_different_numbers() -> None:
    states = make_states(3)
    for _ in range(2):
        update_rows(
            JobState,
            [
                (state.pk, {"runs_total": F("runs_total") + n, "cpu_seconds_total": F("cpu_seconds_total") + 0.5 + 0.25})  # noqa: E501
                for n, state in enumerate(states, 1)
            ],
        )  # fmt: skip
    assert list(JobState.objects.order_by("pk").values_list("runs_total", flat=True)) == [2, 4, 6]
    assert set(JobState.objects.values_list("cpu_seconds_total", flat=True)) == {1.5}


@pytest.mark.one_database
def test_expression_that_is_no_increment_is_refused() -> None:
    (state,) = make_states(1)
    for expression in (F("runs_total") * 2, F("interrupted_total") + 1, F("runs_total") + F("pk")):
        with pytest.raises(TypeError, match="runs_total"):
            update_rows(JobState, [(state.pk, {"runs_total": expression})])


def test_rows_that_change_the_same_fields_share_a_statement() -> None:
    states = make_states(20)
    with CaptureQueriesContext(connection) as queries:
        update_rows(JobState, [(state.pk, {"last_error": "x"}) for state in states])
    assert len(queries) == 1
    with CaptureQueriesContext(connection) as queries:
        update_rows(
            JobState,
            [(state.pk, {("last_error", "last_status")[n % 2]: "y"}) for n, state in
             enumerate(states)],
        )  # fmt: skip
    assert len(queries) == 2
    update_rows(JobState, [])
    update_rows(JobState, [(states[0].pk, {})])


def test_more_rows_than_parameters_of_a_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chroniker.db.bulk._MAX_PARAMETERS", 9)
    states = make_states(7)
    rows = [(state.pk, {"last_error": "x", "last_status": "lost"}) for state in states]
    update_rows(JobState, rows)
    assert JobState.objects.filter(last_error="x", last_status="lost").count() == 7


def test_condition_leaves_other_rows_as_they_are() -> None:
    running = Run.objects.create(job=make_job(), scheduled_for=NOON, status=RunStatus.RUNNING)
    ended = Run.objects.create(job=make_job(), scheduled_for=NOON, status=RunStatus.LOST)
    rows = [(run.pk, {"status": RunStatus.SUCCEEDED}) for run in (running, ended)]
    update_rows(Run, rows, only={"status": RunStatus.RUNNING})
    assert Run.objects.get(pk=running.pk).running_placement is None
    assert Run.objects.get(pk=ended.pk).status == RunStatus.LOST


def test_related_row_is_stored_by_its_key() -> None:
    (state,) = make_states(1)
    run = Run.objects.create(job=state.job, scheduled_for=NOON)
    update_rows(JobState, [(state.pk, {"current_run": run, "last_run": run})])
    state.refresh_from_db()
    assert (state.current_run, state.last_run) == (run, run)


@pytest.mark.django_db(transaction=True)
def test_rows_that_another_transaction_has_locked_are_left_out(run_in_fork: RunInFork) -> None:
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("SQLite has no locks of rows")
    first, second = make_states(2)

    def look() -> list[Any]:
        with transaction.atomic():
            return lock_owned(JobState, JobState.objects.all(), "pk")

    connection.close()
    with transaction.atomic():
        JobState.objects.select_for_update().get(pk=first.pk)
        other = _in_thread(look)
    assert other == [(second.pk,)]


def _in_thread(action: Any) -> Any:
    """In a thread, which has a connection of its own."""
    from concurrent.futures import ThreadPoolExecutor

    from django.db import connections

    def call() -> Any:
        try:
            return action()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(30)
