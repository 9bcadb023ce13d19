"""Short waits for locks: within the scheduler's statements only."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from chroniker.db.alias import atomic
from chroniker.db.lock_timeout import lock_timeout_seconds, short_lock_timeout
from chroniker.models import Host
from tests.support.types import RunInFork

pytestmark = pytest.mark.django_db(transaction=True)

SHORT: Any = {"sqlite": 2000, "postgresql": "2s", "mysql": 2}


def in_statement() -> Any:
    """The limit that applies to a statement that may wait for a lock."""
    queries = {
        "sqlite": "PRAGMA busy_timeout",
        "postgresql": "SHOW lock_timeout",
        "mysql": "SELECT @@innodb_lock_wait_timeout FROM chroniker_host FOR UPDATE",
    }
    with atomic(), connection.cursor() as cursor:
        cursor.execute(queries[connection.vendor])
        return cursor.fetchone()[0]


def in_session() -> Any:
    """The limit that the next user of the connection would have."""
    query = "SHOW lock_timeout"
    if connection.vendor == "mysql":
        query = "SELECT @@innodb_lock_wait_timeout"
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


@pytest.fixture(autouse=True)
def lease_of_a_minute(settings: Any) -> None:
    settings.CHRONIKER_LEASE_SECONDS = 60
    Host.objects.create(name="a host")


@pytest.mark.parametrize("connected", [True, False])
def test_this_process_waits_only_briefly_for_locks(connected: bool) -> None:
    before, short = in_statement(), SHORT[connection.vendor]
    assert before != short
    if not connected:
        connection.close()
    with short_lock_timeout():
        assert in_statement() == short
        connection.close()
        assert in_statement() == short, "another connection"
    assert in_statement() == before


@pytest.mark.parametrize(("lease", "seconds"), [(300, 10), (60, 2), (59, 1), (5, 1)])
def test_limit_is_a_thirtieth_of_a_lease_and_at_least_a_second(
    settings: Any, lease: int, seconds: int
) -> None:
    settings.CHRONIKER_LEASE_SECONDS = lease
    assert lock_timeout_seconds() == seconds


def test_processes_that_it_starts_wait_as_usual(run_in_fork: RunInFork) -> None:
    connection.close()
    with short_lock_timeout():
        ended = run_in_fork(in_statement).wait()
    assert ended.exit_code == 0, ended.output
    assert ended.value != SHORT[connection.vendor]


def test_session_is_left_as_it_is() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("a connection to a file has no other user")
    before = in_session()
    with short_lock_timeout():
        Host.objects.update(paused=False)
        assert in_session() == before
        in_statement()
        assert in_session() == before
    assert in_session() == before
    assert connection.execute_wrappers == []
