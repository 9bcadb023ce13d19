"""What manage.py check says of wrong settings; right ones pass in silence."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connections

from chroniker.checks import check_settings, check_sqlite, check_time_zones
from chroniker.conf import all_settings

WRONG: list[tuple[str, Any, str]] = [
    ("USE_PID", 1, "E001"),
    ("USE_PID", "yes", "E001"),
    ("MAX_PARALLEL", True, "E001"),
    ("MAX_PARALLEL", 2.5, "E001"),
    ("MAX_PARALLEL", "4", "E001"),
    ("MAX_PARALLEL", 0, "E002"),
    ("LEASE_SECONDS", "60", "E001"),
    ("LEASE_SECONDS", 0, "E002"),
    ("LEASE_SECONDS", float("nan"), "E002"),
    ("LEASE_SECONDS", float("inf"), "E002"),
    ("LEASE_SECONDS", 30, "E003"),
    ("LEASE_RENEW_SECONDS", 20, "E003"),
    ("LEASE_RENEW_SECONDS", 0, "E002"),
    ("MAX_OUTPUT_BYTES", 10, "E002"),
    ("KILL_GRACE_SECONDS", -1, "E002"),
    ("START_METHOD", "forkserver", "E004"),
    ("START_METHOD", 7, "E001"),
    ("EXECUTOR", "celery", "E004"),
    ("HOSTNAME", "", "E004"),
    ("HOSTNAME", "*", "E004"),
    ("LOG_CAPTURE_LEVEL", "info", "E005"),
    ("LOG_CAPTURE_LEVEL", "LOUD", "E005"),
    ("LOG_CAPTURE_LEVEL", None.__class__, "E001"),
    ("LOG_FORMAT", "%(levelname", "E007"),
    ("LOG_FORMAT", "no field", "E007"),
    ("METRICS_DURATION_BUCKETS", "1,2", "E001"),
    ("METRICS_DURATION_BUCKETS", [], "E008"),
    ("METRICS_DURATION_BUCKETS", [5, 1], "E008"),
    ("METRICS_DURATION_BUCKETS", [0, 1], "E008"),
    ("METRICS_DURATION_BUCKETS", [1, True], "E008"),
    ("METRICS_DURATION_BUCKETS", [1, "x"], "E008"),
    ("METRICS_DURATION_BUCKETS", [1, float("inf")], "E008"),
    ("ALLOWED_COMMANDS", "migrate", "E001"),
    ("ALLOWED_COMMANDS", ["migrate", 3], "E009"),
    ("SECRET_NAMES", [""], "E009"),
    ("USE_PIDS", True, "W001"),
    ("LEASE_SECOND", 60, "W001"),
    ("ANYTHING", 1, "W001"),
]

RIGHT: list[dict[str, Any]] = [
    {},
    {"LEASE_SECONDS": 3, "LEASE_RENEW_SECONDS": 0.9},
    {"LEASE_SECONDS": 600.5, "LEASE_RENEW_SECONDS": 200},
    {"START_METHOD": "spawn", "EXECUTOR": "local"},
    {"LOG_CAPTURE_LEVEL": "WARNING"},
    {"LOG_CAPTURE_LEVEL": 25},
    {"METRICS_DURATION_BUCKETS": (0.5, 1, 60)},
    {"ALLOWED_COMMANDS": {"migrate"}, "SECRET_NAMES": ("MY_KEY",)},
    {"ALLOWED_COMMANDS": []},
    {"SELECT_FOR_UPDATE": False, "USE_PID": True, "PID_FILE": "/run/x.pid"},
    {"METRICS_TOKEN": 3, "MONITORS_X": 1, "EMAIL_SENDER": "x", "SITE_URL": "https://x.example"},
    {"NOTIFIERS": [], "DEADMAN_URL": "https://x.example", "JOB_ERROR_CALLBACK": "a.b"},
    {"MAX_PARALLEL": None},
]


def ids(messages: list[Any]) -> set[str]:
    return {message.id for message in messages}


@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_wrong_setting_is_reported_with_a_hint(
    settings: Any, name: str, value: Any, expected: str
) -> None:
    setattr(settings, f"CHRONIKER_{name}", value)
    messages = check_settings()
    assert f"chroniker.{expected}" in ids(messages)
    assert all(message.hint and f"CHRONIKER_{name}" in message.msg for message in messages)


@pytest.mark.parametrize("given", RIGHT)
def test_right_settings_pass(settings: Any, given: dict[str, Any]) -> None:
    for name, value in given.items():
        setattr(settings, f"CHRONIKER_{name}", value)
    assert check_settings() == []


def test_every_setting_has_its_type_checked(settings: Any) -> None:
    for setting in all_settings():
        setattr(settings, setting.name, object())
        found = [m for m in check_settings() if setting.name in m.msg]
        assert {"chroniker.E001"} <= ids(found), setting.name
        setattr(settings, setting.name, None)


def test_misspelled_setting_gets_a_hint(settings: Any) -> None:
    settings.CHRONIKER_LEASE_SECOND = 60
    (message,) = check_settings()
    assert message.hint == "Is CHRONIKER_LEASE_SECONDS meant?"


def test_times_without_zones_are_an_error(settings: Any) -> None:
    assert check_time_zones() == []
    settings.USE_TZ = False
    assert ids(check_time_zones()) == {"chroniker.E006"}


@pytest.mark.parametrize(
    ("config", "warned"),
    [
        ({"NAME": "/x.sqlite3"}, ["transaction_mode", "timeout"]),
        ({"OPTIONS": {"timeout": 20}}, ["transaction_mode"]),
        ({"OPTIONS": {"transaction_mode": "IMMEDIATE"}}, ["timeout"]),
        ({"OPTIONS": {"transaction_mode": "immediate", "timeout": 20}}, []),
        ({"OPTIONS": {"transaction_mode": "EXCLUSIVE", "timeout": 10.5}}, []),
        ({"NAME": ":memory:"}, []),
        ({"ENGINE": "django.db.backends.postgresql"}, []),
        ({"ENGINE": "django.contrib.gis.db.backends.spatialite"}, []),
    ],
)
def test_default_sqlite_settings_give_a_warning(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], warned: list[str]
) -> None:
    base = {"ENGINE": "django.db.backends.sqlite3", "NAME": "/x.sqlite3", "OPTIONS": {}}
    monkeypatch.setitem(connections.settings, "default", {**base, **config})
    messages = check_sqlite()
    assert ids(messages) == ({"chroniker.W002"} if warned else set())
    for message in messages:
        assert all(word in str(message.hint) for word in warned)


def test_manage_py_check_runs_them(settings: Any) -> None:
    settings.CHRONIKER_MAX_PARALLEL = 0
    assert "chroniker.E002" in ids(run_checks())
