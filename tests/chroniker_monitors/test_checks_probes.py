"""What ``manage.py check`` says about the settings of the probes."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MODELS", ["chroniker.Run"], None), ("MODELS", ["chroniker.No"], "E006"),
        ("MODELS", ["Run"], "E006"), ("MODELS", "chroniker.Run", "E001"),
        ("SQL_ALIAS", "default", None), ("SQL_ALIAS", "other", "E007"),
        ("BROKERS", {"a": "redis://h/0"}, None), ("BROKERS", {"a": "hunter22"}, "E008"),
        ("BROKERS", ["redis://me:hunter22@h/0"], "E001"),
        ("ALLOWED_NETWORKS", ["10.0.0.0/8"], None),
        ("ALLOWED_NETWORKS", ["10.0.0.0/33"], "E003"), ("CA_FILE", 5, "E001"),
        ("HEALTH_CHECKS", "a.b", "E001"),
    ],
)  # fmt: skip
def test_wrong_probe_settings_are_found(
    settings: Any, name: str, value: Any, expected: str | None
) -> None:
    setattr(settings, f"CHRONIKER_MONITORS_{name}", value)
    found = [message for message in run_checks() if f"CHRONIKER_MONITORS_{name}" in message.msg]
    assert [message.id for message in found] == (
        [f"chroniker_monitors.{expected}"] if expected else []
    )
    assert not any("hunter22" in str(message) for message in found)
