"""The health port of a real ``cronserver``."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from chroniker.health.server import STALLED_SECONDS, HealthProcess, LoopClock
from chroniker.models import Host, JobState
from tests.factories import make_job
from tests.support.processes import wait_until
from tests.support.types import StartManage

pytestmark = pytest.mark.django_db(transaction=True)


def fetch(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error) if "json" in error.headers["Content-Type"] else None


@pytest.fixture
def serve(start_manage: StartManage, tmp_path: Path) -> Callable[..., tuple[Any, int]]:
    def start(**env: str) -> tuple[Any, int]:
        process = start_manage("cronserver", "0.3", "--health-port", "0", env=env)
        log = tmp_path / "cronserver.log"
        found = wait_until(
            lambda: re.search(r"Health at port (\d+)", log.read_text()), timeout=30, message="port"
        )
        return process, int(found[1])

    return start


@pytest.mark.no_leftovers
def test_cronserver_answers_and_ends_with_its_health_process(serve: Any) -> None:
    server, port = serve()
    wait_until(lambda: Host.objects.filter(last_tick_at__isnull=False).exists(), timeout=20)
    assert fetch(port, "/health") == (200, {"status": "ok"})
    assert fetch(port, "/ready")[0] == 200
    assert fetch(port, "/else")[0] == 404
    server.send_signal(signal.SIGTERM)
    assert server.wait(15) == 0
    with pytest.raises(OSError):
        fetch(port, "/health")


@pytest.mark.no_leftovers
def test_killed_cronserver_leaves_no_health_process(serve: Any) -> None:
    server, port = serve()
    assert fetch(port, "/health")[0] == 200
    server.kill()
    server.wait(10)

    def refuses() -> bool:
        try:
            fetch(port, "/health")
        except OSError:
            return True
        return False

    wait_until(refuses, timeout=10)


def test_job_that_cannot_be_scheduled_is_degraded(serve: Any) -> None:
    job = make_job()
    _, port = serve()
    wait_until(lambda: JobState.objects.filter(job=job).exists(), timeout=20)
    JobState.objects.filter(job=job).update(blocked_reason="schedule")
    status, content = fetch(port, "/ready")
    assert (status, content["status"]) == (503, "degraded")
    assert not content["checks"]["jobs"]["ok"]
    assert fetch(port, "/health")[0] == 200


def test_stalled_loop_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LoopClock()
    assert clock.is_turning()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + STALLED_SECONDS + 1)
    assert not clock.is_turning()
    clock.note_pass()
    assert clock.is_turning()


@pytest.mark.no_leftovers
def test_pass_of_the_loop_is_seen_by_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LoopClock()
    process = HealthProcess(0, clock)
    process.start()
    try:
        assert fetch(process.port, "/health") == (200, {"status": "ok"})
        with monkeypatch.context() as past:
            now = time.monotonic()
            past.setattr(time, "monotonic", lambda: now - STALLED_SECONDS - 1)
            clock.note_pass()
        assert fetch(process.port, "/health") == (503, {"status": "stalled"})
        clock.note_pass()
        assert fetch(process.port, "/health")[0] == 200
    finally:
        process.close()


def test_port_in_use_is_an_error() -> None:
    process = HealthProcess(0, LoopClock())
    try:
        with pytest.raises(CommandError, match=f"Cannot listen on port {process.port}"):
            call_command("cronserver", "1", "--health-port", str(process.port))
    finally:
        process.close()
