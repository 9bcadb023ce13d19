"""The fork server with many runs at once."""

from __future__ import annotations

from typing import Any

import pytest

from chroniker.models import Run
from tests.factories import make_due_job
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.slow
@pytest.mark.one_database
def test_hundreds_of_runs_do_not_deadlock_the_fork_server(run_tick: RunTick, settings: Any) -> None:
    settings.CHRONIKER_MAX_PARALLEL = 1000
    for _ in range(450):  # more replies than the socket buffer of the tick holds
        make_due_job()
    assert run_tick().exit_code == 0
    assert Run.objects.filter(status="succeeded").count() == 450
