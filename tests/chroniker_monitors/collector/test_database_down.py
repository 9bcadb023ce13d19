"""Scrapes without a database end in time and say so."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.db.backends.signals import connection_created
from django.test import Client

from tests.factories import make_job, make_job_state
from tests.support.connections import postgres_wrapper, replace_default_connection
from tests.support.machine import free_port
from tests.support.metrics_page import OPENMETRICS, MetricsPage, scrape, scrape_threads
from tests.support.processes import wait_until
from tests.support.silent_server import run_silent_server

LIMIT = 3.0


def assert_down_in_time() -> None:
    seconds = []
    for headers in ({}, {"accept": OPENMETRICS}, {}):
        began = time.monotonic()
        text = scrape(Client(), **headers)
        seconds.append(time.monotonic() - began)
        assert "\nchroniker_collector_up 0.0\n" in text
        assert "\nchroniker_build_info{" in text
        assert "\npython_info{" in text
        assert "chroniker_job" not in text
        assert "dropped_jobs" not in text
        if seconds[-1] < LIMIT and len(seconds) > 1:
            break
    assert min(seconds) < LIMIT, seconds  # a busy machine may be late occasionally


def test_server_that_is_stopped(transactional_db: None) -> None:
    with replace_default_connection(postgres_wrapper(free_port())):
        assert_down_in_time()


@pytest.mark.slow
def test_unresponsive_server(transactional_db: None) -> None:
    """As with SIGSTOP: the kernel accepts the connection, but no reply comes."""
    with run_silent_server() as port:
        with replace_default_connection(postgres_wrapper(port)):
            assert_down_in_time()
        wait_until(lambda: not scrape_threads(), timeout=10)


def test_locked_table(transactional_db: None, settings: Any) -> None:
    settings.CHRONIKER_METRICS_TIMEOUT_SECONDS = 0.5
    if connection.vendor == "sqlite":
        pytest.skip("SQLite's readers do not wait for writers in WAL mode")
    locks = {
        "postgresql": ("BEGIN", "LOCK TABLE chroniker_job IN ACCESS EXCLUSIVE MODE", "ROLLBACK"),
        "mysql": ("SET autocommit=1", "LOCK TABLES chroniker_job WRITE", "UNLOCK TABLES"),
    }
    begin, lock, unlock = locks[connection.vendor]
    make_job(name="a")
    with connection.cursor() as cursor:
        cursor.execute(begin)
        cursor.execute(lock)
        try:
            assert_down_in_time()
            # No statement still waits for the lock: all have timed out.
            wait_until(lambda: not scrape_threads(), timeout=10)
        finally:
            cursor.execute(unlock)
    assert MetricsPage()("chroniker_job_enabled", job_name="a") == 1


def test_it_recovers(transactional_db: None) -> None:
    make_job_state(make_job(name="a"), runs_total=3)
    assert MetricsPage()("chroniker_job_runs_total", job_name="a") == 3
    with replace_default_connection(postgres_wrapper(free_port())):
        assert_down_in_time()
    assert MetricsPage()("chroniker_job_runs_total", job_name="a") == 3


def test_missing_table(db: None) -> None:
    """Before `manage.py migrate`; the surrounding transaction stays usable."""
    with connection.execute_wrapper(_no_such_table):
        assert "chroniker_collector_up 0.0" in scrape()
    make_job(name="a")
    assert MetricsPage()("chroniker_job_enabled", job_name="a") == 1


def _no_such_table(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if "chroniker_host" in sql:
        raise DatabaseError("no such table")
    return execute(sql, params, many, context)


def test_atomic_requests_do_not_ask_the_database_first(
    transactional_db: None, settings: Any
) -> None:
    wrapper = postgres_wrapper(free_port())
    wrapper.settings_dict["ATOMIC_REQUESTS"] = True
    with replace_default_connection(wrapper):
        assert_down_in_time()


def test_connection_of_a_scrape_ends_with_it(transactional_db: None) -> None:
    """The thread has its own connection: it uses none of the web worker and leaves none open."""
    opened: list[Any] = []

    def note(connection: Any, **kwargs: Any) -> None:
        opened.append(connection)

    make_job(name="a")
    connection.close()
    connection_created.connect(note)
    try:
        scrape()
        scrape()
    finally:
        connection_created.disconnect(note)
    assert len(opened) == 2
    assert [wrapper.connection for wrapper in opened] == [None, None]
    assert connection.connection is None


def test_read_outside_a_transaction_sees_what_is_committed(transactional_db: None) -> None:
    make_job_state(make_job(name="a", hostname="*"), host="web1", runs_total=3)
    assert MetricsPage()("chroniker_job_runs_total", job_name="a", host="web1") == 3


# --- the deadline itself --------------------------------------------------------------------
