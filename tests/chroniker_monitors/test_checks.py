"""What ``manage.py check`` reports about the settings of metrics and monitors."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks

from chroniker_monitors.checks import check_settings

# Django's own check of JSON fields queries the database since 6.1.
pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

LONG = "0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TOKEN", LONG, None),
        ("TOKEN", 123, "E001"),
        ("TOKEN", "short", "W001"),
        ("TOKEN", "ключ от всех дверей", "E005"),
        ("TOKEN", f" {LONG}", "E005"),
        ("ALLOWED_NETWORKS", ["10.0.0.0/8", "::1"], None),
        ("ALLOWED_NETWORKS", "10.0.0.0/8", "E001"),
        ("ALLOWED_NETWORKS", ["10.0.0.0/99"], "E003"),
        ("MAX_JOBS", 5, None),
        ("MAX_JOBS", 0, "E002"),
        ("MAX_JOBS", "5", "E001"),
        ("MAX_JOBS", True, "E001"),
        ("HISTOGRAMS", False, None),
        ("HISTOGRAMS", "no", "E001"),
        ("TIMEOUT_SECONDS", 0.5, None),
        ("TIMEOUT_SECONDS", 0, "E002"),
        ("DURATION_BUCKETS", [1, 2.5], None),
        ("DURATION_BUCKETS", [2, 1], "E004"),
        ("DURATION_BUCKETS", [1, 1], "E004"),
        ("DURATION_BUCKETS", [0, 1], "E004"),
        ("DURATION_BUCKETS", ["1"], "E004"),
        ("DURATION_BUCKETS", [1, float("inf")], "E004"),
    ],
)
def test_wrong_metrics_settings_are_found(
    settings: Any, name: str, value: Any, expected: str | None
) -> None:
    setattr(settings, f"CHRONIKER_METRICS_{name}", value)
    messages = check_settings()
    assert [message.id for message in messages] == (
        [f"chroniker_monitors.{expected}"] if expected else []
    )
    assert all(f"CHRONIKER_METRICS_{name}" in message.msg for message in messages)
    assert all(message.hint for message in messages)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [(None, []), (["check_monitor", "noop"], []), ({"noop"}, ["chroniker_monitors.W002"])],
)
def test_disallowed_check_monitor_gives_a_warning(
    settings: Any, allowed: Any, expected: list[str]
) -> None:
    settings.CHRONIKER_ALLOWED_COMMANDS = allowed
    messages = check_settings()
    assert [message.id for message in messages] == expected
    assert all("check_monitor" in message.msg and message.hint for message in messages)


def test_checks_run_with_manage_py_check(settings: Any) -> None:
    settings.CHRONIKER_METRICS_MAX_JOBS = "many"
    assert "chroniker_monitors.E001" in [message.id for message in run_checks()]


def test_checks_are_registered_once(settings: Any) -> None:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS]  # each app is ready again
    settings.CHRONIKER_METRICS_MAX_JOBS = "many"
    found = [message.id for message in run_checks()]
    assert found.count("chroniker_monitors.E001") == 1


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
