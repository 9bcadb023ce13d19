"""Ticks of a site with Sentry, in forks."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.processes import ForkedProcess, ProcessResult
from tests.support.recording_server import RecordingServer
from tests.support.types import RunInFork, StartSentryTick
from tests.testapp.apps import DSN_VARIABLE, init_sentry


def tick_with_sentry(
    dsn: str, options: dict[str, Any], before: Callable[[], None] | None = None
) -> float:
    """Run a tick and the exit handlers; the duration of the tick in seconds."""
    from chroniker.engine.scheduler import Scheduler

    atexit._clear()  # the test runner's
    os.environ[DSN_VARIABLE] = dsn
    init_sentry()
    if before is not None:
        before()
    began = time.monotonic()
    Scheduler(**options).run()
    seconds = time.monotonic() - began
    atexit._run_exitfuncs()
    return seconds


@pytest.fixture
def start_sentry_tick(
    transactional_db: None,
    own_runtime_dir: None,
    run_in_fork: RunInFork,
    recording_server: RecordingServer,
) -> Callable[..., ForkedProcess]:
    """``start_sentry_tick(dsn="", before=None, **options)``: a tick of a site with Sentry.

    Sentry is ``recording_server`` by default; ``before`` is called before the tick starts.
    """

    def start(
        dsn: str = "", before: Callable[[], None] | None = None, **options: Any
    ) -> ForkedProcess:
        return run_in_fork(tick_with_sentry, dsn or recording_server.dsn, options, before)

    return start


@pytest.fixture
def sentry_tick(start_sentry_tick: StartSentryTick) -> Callable[..., ProcessResult]:
    """The same, but wait for the end of the tick."""

    def run(dsn: str = "", **options: Any) -> ProcessResult:
        ended = start_sentry_tick(dsn, **options).wait(60)
        assert ended.exit_code == 0, ended.output
        return ended

    return run
