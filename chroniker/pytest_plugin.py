"""Fixtures for pytest. Installing Chroniker makes them available; nothing else happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from datetime import datetime

    from chroniker.testing import FrozenSchedules, JobResult


@pytest.fixture
def chroniker_run_job(db: None) -> Callable[..., JobResult]:
    """``chroniker_run_job("import sales")``: run a job inline; see ``chroniker.testing``."""
    from chroniker.testing import run_job

    return run_job


@pytest.fixture
def chroniker_schedules(db: None) -> Iterator[Callable[[datetime], FrozenSchedules]]:
    """``chroniker_schedules(moment)``: freeze the schedules of all jobs until the test ends."""
    from chroniker.testing import freeze_schedules

    with ExitStack() as stack:
        yield lambda now: stack.enter_context(freeze_schedules(now))
