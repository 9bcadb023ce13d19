"""Connections and pools of a process that forks."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from django.db import connection

from chroniker.db.connections import close_pools, forget_inherited_connections, without_pool
from chroniker.models import Host
from tests.settings import BACKEND
from tests.support.types import RunInFork

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(BACKEND != "postgres", reason="Django has pools for PostgreSQL only"),
]


def has_pool() -> bool:
    """Whether a query uses a pool."""
    Host.objects.count()
    return getattr(connection, "pool", None) is not None


def with_pool(work: Any) -> Any:
    """Do something in a process whose site has a pool."""
    connection.settings_dict["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 2}
    try:
        return work()
    finally:
        connection.close()
        close_pools()


def test_scheduler_has_no_pool_and_gives_it_back(run_in_fork: RunInFork) -> None:
    def work() -> list[bool]:
        before = has_pool()
        with without_pool():
            during = has_pool()
            with without_pool():
                nested = has_pool()
            still = has_pool()
        return [before, during, nested, still, has_pool()]

    ended = run_in_fork(with_pool, work).wait()
    assert ended.value == [True, False, False, False, True], ended.output


def test_site_gets_its_pool_back_after_an_error(run_in_fork: RunInFork) -> None:
    def work() -> bool:
        with contextlib.suppress(ZeroDivisionError), without_pool():
            raise ZeroDivisionError
        return has_pool()

    ended = run_in_fork(with_pool, work).wait()
    assert ended.value is True, ended.output


def test_job_has_the_pool_of_the_site(run_in_fork: RunInFork) -> None:
    """The job is a fork of the scheduler."""

    def job() -> bool:
        forget_inherited_connections()
        try:
            return has_pool()
        finally:
            connection.close()
            close_pools()

    def work() -> tuple[bool, bool]:
        from tests.support.processes import fork

        with without_pool():
            Host.objects.count()
            ended = fork(job).wait()
            return ended.value, has_pool()

    ended = run_in_fork(with_pool, work).wait()
    assert ended.value == (True, False), ended.output


def test_site_without_a_pool_keeps_its_connection() -> None:
    Host.objects.count()
    raw = connection.connection
    assert raw is not None
    with without_pool():
        Host.objects.count()
        assert connection.connection is raw
    assert connection.connection is raw
