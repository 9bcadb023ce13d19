"""Ticks record their host."""

from __future__ import annotations

from typing import Any

import pytest

from chroniker.models import Host
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_tick_records_its_host(run_tick: RunTick, settings: Any) -> None:
    settings.CHRONIKER_HOSTNAME = "web1"
    assert run_tick().output == ""
    host = Host.objects.get()
    assert host.name == "web1" and host.last_tick_at and host.first_tick_at
    assert host.tick_seconds is not None and host.tick_seconds < 5
