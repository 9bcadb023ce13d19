"""Fixtures of the monitors."""

from __future__ import annotations

import pytest


@pytest.fixture
def outside_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """``check_monitor`` finds no run in the environment, as at a shell prompt."""
    monkeypatch.delenv("CHRONIKER_RUN_ID", raising=False)
