"""What ``manage.py check`` reports about settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import connections

from chroniker.checks import check_apprise, check_settings, check_sqlite, check_time_zones
from chroniker.conf import all_settings

# Django's own check of JSON fields queries the database since 6.1.
pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

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
    ("EXECUTOR", 7, "E001"),
    ("EXECUTORS", "kubernetes", "E001"),
    ("HOSTNAME", "", "E004"),
    ("HOSTNAME", "*", "E004"),
    ("LOG_CAPTURE_LEVEL", "info", "E005"),
    ("APPRISE_URLS", "slack://x", "E001"),
    ("STORM_INCIDENTS", 0, "E002"),
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
    ("ALLOWED_TASKS", [3], "E009"),
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


def ids(messages: Iterable[CheckMessage]) -> set[str]:
    return {message.id or "" for message in messages}


def setting_ids() -> list[str]:
    """The ids of what ``check_settings`` reports, in its order."""
    return [message.id or "" for message in check_settings()]


CHECK_IDS = {
    "chroniker.E001",
    "chroniker.E002",
    "chroniker.E024",
    "chroniker.E025",
    "chroniker.W001",
}


def callback_and_deadman_ids() -> list[str]:
    return [message.id or "" for message in run_checks() if message.id in CHECK_IDS]


@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_wrong_setting_is_reported_with_a_hint(
    settings: Any, name: str, value: Any, expected: str
) -> None:
    setattr(settings, f"CHRONIKER_{name}", value)
    messages = check_settings()
    assert f"chroniker.{expected}" in ids(messages)
    assert all(message.hint and f"CHRONIKER_{name}" in message.msg for message in messages)


@pytest.mark.parametrize("given", RIGHT)
def test_valid_settings_pass(settings: Any, given: dict[str, Any]) -> None:
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
    assert message.hint == "Did you mean CHRONIKER_LEASE_SECONDS?"


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


@pytest.mark.parametrize("value", ["shop.example.com", "ftp://a.b", "https://", "javascript:1"])
def test_invalid_site_url_is_reported(settings: Any, value: str) -> None:
    settings.CHRONIKER_SITE_URL = value
    assert setting_ids() == ["chroniker.E020"]


@pytest.mark.parametrize("path", ["no.such.Thing", "builtins.dict", "os.path.join", "nodots"])
def test_invalid_notifier_path_is_reported(settings: Any, path: str) -> None:
    settings.CHRONIKER_NOTIFIERS = [path]
    assert setting_ids() == ["chroniker.E021"]


def test_notifier_that_is_not_a_string_is_reported(settings: Any) -> None:
    settings.CHRONIKER_NOTIFIERS = [3]
    assert setting_ids() == ["chroniker.E009"]


def test_webhook_without_a_secret_is_reported(settings: Any) -> None:
    settings.CHRONIKER_NOTIFIERS = ["chroniker.alerting.webhook.Webhook"]
    settings.CHRONIKER_WEBHOOK_URL = "https://example.com/hook"
    assert setting_ids() == ["chroniker.E022"]
    for secret in ("a secret", "whsec_c2hvcnQ=", "dGhlIHNlY3JldCBvZiB0aGUgcmVjZWl2ZXI="):
        settings.CHRONIKER_WEBHOOK_SECRET = secret
        assert setting_ids() == ["chroniker.E022"]
    settings.CHRONIKER_WEBHOOK_SECRET = "whsec_dGhlIHNlY3JldCBvZiB0aGUgcmVjZWl2ZXI="
    assert setting_ids() == []


def test_subject_prefix_with_a_newline_is_reported(settings: Any) -> None:
    settings.CHRONIKER_EMAIL_SUBJECT_PREFIX = "[a]\nBcc: all@example.com"
    assert setting_ids() == ["chroniker.E023"]


def test_valid_alert_settings_pass(settings: Any) -> None:
    settings.CHRONIKER_EMAIL_SENDER = "Cron"
    settings.CHRONIKER_EMAIL_HOST_USER = "cron@example.com"
    settings.CHRONIKER_SITE_URL = "https://shop.example.com"
    settings.CHRONIKER_NOTIFIERS = ["tests.support.notifiers.HangingNotifier"]
    assert setting_ids() == []


def test_valid_callback_and_deadman_settings_pass(settings: Any) -> None:
    settings.CHRONIKER_JOB_ERROR_CALLBACK = "tests.support.callbacks.record_call"
    settings.CHRONIKER_DEADMAN_URL = "https://hc.example.com:8443/ping/5c1f?create=1"
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 2.5
    assert callback_and_deadman_ids() == []


@pytest.mark.parametrize(
    "path",
    [
        "tests.support.callbacks.not_there",
        "no_such_module.at_all",
        "note",
        "tests.support.callbacks.NOT_CALLABLE",
    ],
)
def test_missing_callback_is_reported(settings: Any, path: str) -> None:
    settings.CHRONIKER_JOB_ERROR_CALLBACK = path
    assert callback_and_deadman_ids() == ["chroniker.E024"]


@pytest.mark.parametrize(
    "url",
    [
        "hc.example.com/ping",
        "file:///etc/passwd",
        "ftp://example.com/",
        "https://",
        "https://example.com:port/",
        "https://[::1/",
        "https://example.com/a b",
        "https://example.com/\n",
    ],
)
def test_invalid_deadman_url_is_reported(settings: Any, url: str) -> None:
    settings.CHRONIKER_DEADMAN_URL = url
    assert callback_and_deadman_ids() == ["chroniker.E025"]
    messages = [str(message) for message in run_checks() if message.id == "chroniker.E025"]
    assert url.removeprefix("https://") not in messages[0] or url == "https://"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CHRONIKER_JOB_ERROR_CALLBACK", 7, "chroniker.E001"),
        ("CHRONIKER_DEADMAN_URL", 7, "chroniker.E001"),
        ("CHRONIKER_DEADMAN_TIMEOUT_SECONDS", "5", "chroniker.E001"),
        ("CHRONIKER_DEADMAN_TIMEOUT_SECONDS", 0, "chroniker.E002"),
    ],
)
def test_values_of_the_wrong_type_are_reported(
    settings: Any, name: str, value: Any, expected: str
) -> None:
    setattr(settings, name, value)
    assert callback_and_deadman_ids() == [expected]


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        (None, set()),
        ([], set()),
        (["json://localhost"], set()),
        ({"": ["json://localhost"], "web": "slack://a/b"}, set()),
        (["no URL"], {"chroniker.E026"}),
        ({"web": [3]}, {"chroniker.E026"}),
    ],
)
def test_apprise_urls(settings: Any, urls: Any, expected: set[str]) -> None:
    settings.CHRONIKER_APPRISE_URLS = urls
    messages = check_apprise()
    assert ids(messages) == expected
    assert "no URL" not in "".join(message.msg for message in messages), "it may be a secret"
