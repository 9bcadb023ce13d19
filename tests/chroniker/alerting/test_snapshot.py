"""The snapshot of an incident."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from django.db import connection, connections

from chroniker.alerting import snapshot
from chroniker.alerting.snapshot import blocking_locks, take_snapshot
from chroniker.alerting.snapshot_text import SnapshotText
from chroniker.masking import Masker
from chroniker.models import Incident
from tests.factories import make_running, make_subscribed_job
from tests.support.mail_server import MailServer, text_of
from tests.support.processes import wait_until
from tests.support.timeline import START, Timeline
from tests.support.types import RunInFork

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_recent_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_recent", snapshot._RecentSnapshot())


def test_snapshot_is_bounded_and_names_this_process() -> None:
    taken = take_snapshot(START)
    assert len(json.dumps(taken)) < 8000
    assert taken["cores"] == os.cpu_count() and len(taken["load"]) == 3
    assert 0 < len(taken["processes"]) <= 10
    assert all(row["rss_bytes"] >= 0 for row in taken["processes"])


def test_incident_and_mail_have_the_snapshot(mail_server: MailServer) -> None:
    make_running(make_subscribed_job("bob", name="rebuild index"), lease_host="web7")
    job = make_subscribed_job("ann")
    Timeline().run(job, "F")
    incident = Incident.objects.get()
    assert incident.snapshot["running"][0]["job"] == "rebuild index"
    text = text_of(mail_server.mails[0])
    assert "memory " in text and "rebuild index on web7" in text


def test_snapshot_that_fails_costs_nothing_else(
    mail_server: MailServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "getloadavg", _raise)
    Timeline().run(make_subscribed_job(), "F")
    assert mail_server.event_names() == ["opened"]
    assert "No snapshot of incident" in caplog.text


def _raise() -> tuple[float, float, float]:
    raise OSError("not obtainable")


def test_incidents_within_seconds_share_one() -> None:
    timeline = Timeline()
    for name in ("ann", "bob"):
        timeline.run_once(make_subscribed_job(name), "F")
    first, second = Incident.objects.all()
    assert first.snapshot == second.snapshot != {}


def test_text_is_one_line_each_and_masked() -> None:
    rows = {
        "processes": [{"pid": 1, "name": "a\nb", "cpu_percent": 99, "rss_bytes": 3 << 20}],
        "locks": [
            {"waiting": 1, "holding": 2, "state": "idle", "seconds": 7.5, "query": "x hunter2x"}
        ],
        "running": [{"job": "x", "host": "web1"}],
    }  # fmt: skip
    text = SnapshotText(rows, Masker(["hunter2x"]))
    assert text.processes == ["a b (1): CPU 99 %, 3.0 MB"]
    assert "hunter2x" not in text.locks[0] and "has waited 7.5 s for session 2" in text.locks[0]
    assert text.running == ["x on web1"]
    assert text.machine.startswith("load ")


def _hold(pipe: Any) -> None:
    from django.db import transaction

    with transaction.atomic():
        Incident.objects.select_for_update().get()
        pipe.write_text("held")
        wait_until(lambda: pipe.read_text() == "done", 30)


def _wait() -> None:
    Incident.objects.update(summary="waiting")


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no locks of rows")
def test_blocking_locks_are_named(run_in_fork: RunInFork, tmp_path: Any) -> None:
    Timeline().run_once(make_subscribed_job(), "F")
    connections.close_all()
    pipe = tmp_path / "state"
    pipe.write_text("")
    holder = run_in_fork(_hold, pipe)
    wait_until(lambda: pipe.read_text() == "held", 30)
    waiter = run_in_fork(_wait)
    # MariaDB shows locks as they were until nobody has looked for a tenth of a second.
    (lock,) = wait_until(blocking_locks, 30, interval=0.2)
    assert lock["waiting"] != lock["holding"]
    pipe.write_text("done")
    holder.wait(30)
    waiter.wait(30)
