"""A scheduler whose database goes away while it runs."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from chroniker.models import JobState, Run
from tests.factories import make_action_job
from tests.faults.proxy import Proxy
from tests.settings import BACKEND
from tests.support.processes import wait_until
from tests.support.types import RunInFork, RunTick

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(BACKEND != "postgres", reason="on PostgreSQL, whose protocol is proxied"),
    pytest.mark.slow,
]

LEASE_SECONDS = 2


@pytest.fixture
def line() -> Any:
    """A line to the database that can be cut; ``line.port`` is its end here."""
    where = connection.settings_dict
    proxy: Any = Proxy(connection.vendor, (where["HOST"], int(where["PORT"])))
    proxy.port = proxy.send_command("door", "tick")
    try:
        yield proxy
    finally:
        proxy.close()


def test_tick_gives_up_an_end_a_lease_after_its_lease(
    line: Any, run_in_fork: RunInFork, run_tick: RunTick, settings: Any, tmp_path: Path
) -> None:
    settings.CHRONIKER_LEASE_SECONDS = LEASE_SECONDS
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.5
    started = tmp_path / "started"
    job = make_action_job(f"sleep 0.5 {started}")

    def tick() -> list[str]:
        from chroniker.engine.scheduler import Scheduler

        messages = logging.handlers.BufferingHandler(1000)
        logging.getLogger("chroniker").addHandler(messages)
        connection.settings_dict |= {"HOST": "127.0.0.1", "PORT": str(line.port), "OPTIONS": {
            "sslmode": "disable", "gssencmode": "disable"}}  # fmt: skip
        Scheduler().run()
        return [record.getMessage() for record in messages.buffer]

    scheduler = run_in_fork(tick)
    wait_until(started.exists, timeout=20)
    line.send_command("refuse", "tick", on=True)
    line.send_command("cut", "tick")
    ended = scheduler.wait(40)
    assert ended.exit_code == 0, ended.output
    assert ended.seconds > 2 * LEASE_SECONDS
    assert any("it will be recorded as lost" in message for message in ended.value), ended.value
    run = Run.objects.get(job=job)
    assert run.status == "running"  # nobody could tell the database

    settings.CHRONIKER_HOSTNAME = "another host"
    run_tick()
    run.refresh_from_db()
    assert run.status == "lost"
    state = JobState.objects.get(job=job)
    assert (state.lease_token, state.failures_lost, state.runs_total) == (None, 1, 1)
