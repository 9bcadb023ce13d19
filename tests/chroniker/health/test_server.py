"""The health port of a real ``cronserver``."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from chroniker.health.readiness import LIMIT_SECONDS
from chroniker.health.server import STALLED_SECONDS, HealthProcess, LoopClock
from chroniker.models import Host, JobState
from tests.factories import make_job
from tests.support.connections import postgres_wrapper, replace_default_connection
from tests.support.processes import wait_until
from tests.support.silent_server import run_silent_server
from tests.support.types import StartManage

pytestmark = pytest.mark.django_db(transaction=True)

PROMPT_SECONDS = 2.0
"""What a busy machine may take for an answer that waits for nothing."""


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


@pytest.fixture
def health_port_of() -> Iterator[Callable[[int], int]]:
    """``health_port_of(port)``: the health port of a scheduler with its database at ``port``."""
    with contextlib.ExitStack() as stack:

        def start(database_port: int) -> int:
            wrapper = postgres_wrapper(database_port)
            process = HealthProcess(0, LoopClock())
            stack.callback(process.close)
            with replace_default_connection(wrapper):
                process.start()
            return process.port

        yield start


def unreachable(detail: str) -> dict[str, Any]:
    return {"status": "unavailable", "checks": {"database": {"ok": False, "detail": detail}}}


@pytest.mark.no_leftovers
def test_database_that_is_down_is_unavailable_at_once(
    health_port_of: Callable[[int], int], free_port: int
) -> None:
    port = health_port_of(free_port)
    began = time.monotonic()
    assert fetch(port, "/ready") == (503, unreachable("The database cannot be reached."))
    assert time.monotonic() - began < PROMPT_SECONDS
    assert fetch(port, "/health")[0] == 200  # a restart would not help


@pytest.mark.no_leftovers
@pytest.mark.slow
def test_database_that_never_answers_is_unavailable_within_seconds(
    health_port_of: Callable[[int], int],
) -> None:
    with run_silent_server() as database_port:
        port = health_port_of(database_port)
        began = time.monotonic()
        assert fetch(port, "/ready") == (503, unreachable("The database does not answer in time."))
        assert time.monotonic() - began < LIMIT_SECONDS + PROMPT_SECONDS
        assert fetch(port, "/health")[0] == 200


def test_port_in_use_is_an_error() -> None:
    process = HealthProcess(0, LoopClock())
    try:
        with pytest.raises(CommandError, match=f"Cannot listen on port {process.port}"):
            call_command("cronserver", "1", "--health-port", str(process.port))
    finally:
        process.close()
