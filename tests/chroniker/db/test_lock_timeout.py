"""The scheduler waits only briefly for locks; its jobs, and others after it, wait as usual."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from chroniker.db.lock_timeout import lock_timeout_seconds, short_lock_timeout
from tests.support.types import RunInFork

pytestmark = pytest.mark.django_db(transaction=True)

LOCK_TIMEOUTS = {
    "sqlite": ("PRAGMA busy_timeout", 2000),
    "postgresql": ("SHOW lock_timeout", "2s"),
}
"""How to read the limit, and its value with a lease of a minute."""


def lock_timeout() -> Any:
    """The limit of a transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK_TIMEOUTS[connection.vendor][0])
        return cursor.fetchone()[0]


@pytest.fixture
def short_timeout(settings: Any) -> Iterator[Any]:
    """The value of the limit; the connection is closed before and after the test."""
    if connection.vendor not in LOCK_TIMEOUTS:
        pytest.skip("MariaDB has the limit only in front of statements that may wait")
    settings.CHRONIKER_LEASE_SECONDS = 60
    connection.close()
    yield LOCK_TIMEOUTS[connection.vendor][1]
    connection.close()


@pytest.mark.parametrize("connected", [True, False])
def test_this_process_waits_only_briefly(short_timeout: Any, connected: bool) -> None:
    if connected:
        assert lock_timeout() != short_timeout
    with short_lock_timeout():
        assert lock_timeout() == short_timeout
        connection.close()
        assert lock_timeout() == short_timeout, "another connection"
    assert lock_timeout() != short_timeout, "the same connection"
    connection.close()
    assert lock_timeout() != short_timeout


def test_processes_that_it_starts_wait_as_usual(short_timeout: Any, run_in_fork: RunInFork) -> None:
    with short_lock_timeout():
        ended = run_in_fork(lock_timeout).wait()
    assert ended.exit_code == 0, ended.output
    assert ended.value != short_timeout


@pytest.mark.parametrize(("lease", "seconds"), [(300, 10), (60, 2), (59, 1), (5, 1)])
def test_limit_is_a_thirtieth_of_a_lease_and_at_least_a_second(
    settings: Any, lease: int, seconds: int
) -> None:
    settings.CHRONIKER_LEASE_SECONDS = lease
    assert lock_timeout_seconds() == seconds
