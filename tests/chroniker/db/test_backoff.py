"""Retries while the database is not available."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest
from django.db import DatabaseError, DataError, InterfaceError, OperationalError, connection

from chroniker.db.backoff import Backoff, describe_error, readable_database_errors
from chroniker.exceptions import DatabaseNotReady

pytestmark = pytest.mark.django_db(transaction=True)


class Clock:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def raising(error: Exception) -> Callable[[], object]:
    def action() -> None:
        raise error

    return action


OUTAGE = OperationalError("server closed the connection\nunexpectedly")


def seconds_to_wait(backoff: Backoff, clock: Clock) -> float:
    """How long it waits, to a tenth of a second."""
    began = clock.now
    for tenth in range(100):
        clock.now = began + tenth / 10 + 0.001
        if not backoff.waiting:
            return tenth / 10
    raise AssertionError("it waits longer than ten seconds")


def test_wait_doubles_with_each_consecutive_failure_up_to_five_seconds(clock: Clock) -> None:
    backoff, waits = Backoff(), []
    assert not backoff.waiting
    for _ in range(7):
        assert backoff.attempt(raising(OUTAGE)) is OUTAGE
        assert backoff.waiting
        waits.append(seconds_to_wait(backoff, clock))
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.attempt(lambda: None) is None
    backoff.attempt(raising(OUTAGE))
    assert seconds_to_wait(backoff, clock) == 0.2


def test_action_is_run_at_once_even_while_it_waits() -> None:
    backoff, calls = Backoff(), []
    backoff.attempt(raising(OUTAGE))
    assert backoff.attempt(lambda: calls.append(1)) is None
    assert calls == [1]


def test_other_errors_are_raised() -> None:
    backoff = Backoff()
    with pytest.raises(ZeroDivisionError):
        backoff.attempt(raising(ZeroDivisionError()))
    assert not backoff.waiting


@pytest.mark.parametrize("error", [OUTAGE, InterfaceError("closed"), DataError("too long")])
def test_next_statement_gets_another_connection(error: Exception) -> None:
    connection.ensure_connection()
    Backoff().attempt(raising(error))
    assert connection.connection is None
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_outage_is_logged_when_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    backoff = Backoff()
    for _ in range(2):
        backoff.attempt(raising(OUTAGE))
    assert caplog.messages == [
        "Trying again later: The database cannot be reached: server closed the connection"
        " unexpectedly"
    ]
    backoff.attempt(lambda: None)
    backoff.attempt(raising(OUTAGE))
    assert len(caplog.messages) == 2


def test_rejected_statement_is_logged_each_time_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backoff = Backoff()
    for _ in range(2):
        backoff.attempt(raising(DataError("value too long")))
    assert caplog.messages == ["The database rejected a statement"] * 2
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    assert "value too long" in caplog.text


@pytest.mark.parametrize("error", [OUTAGE, DataError("value too long")])
def test_errors_are_logged_only_if_wanted(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert Backoff().attempt(raising(error), log=False) is error
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OUTAGE, "The database cannot be reached: server closed the connection unexpectedly"),
        (InterfaceError(), "The database cannot be reached: InterfaceError"),
        (DataError("value too\nlong"), "The database rejected a statement: value too long"),
    ],
)
def test_error_is_described_in_one_line(error: Exception, text: str) -> None:
    assert describe_error(error) == text


@pytest.mark.parametrize(
    "statement", ["SELECT 1 FROM no_such_table", "SELECT no_such_column FROM chroniker_job"]
)
def test_missing_tables_are_described_by_what_to_do(statement: str) -> None:
    with (
        pytest.raises(DatabaseNotReady) as caught,
        readable_database_errors(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert "run `manage.py migrate`" in str(caught.value)
    assert "no_such" in str(caught.value) and "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, DatabaseError)


def test_only_errors_of_the_database_are_replaced() -> None:
    with pytest.raises(ZeroDivisionError), readable_database_errors():
        raise ZeroDivisionError
