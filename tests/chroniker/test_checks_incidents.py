"""What ``manage.py check`` says of the settings of alerts."""

from __future__ import annotations

from typing import Any

import pytest

from chroniker.checks import check_settings


def ids() -> list[str | None]:
    return [message.id for message in check_settings()]


@pytest.mark.parametrize("value", ["shop.example.com", "ftp://a.b", "https://", "javascript:1"])
def test_an_address_that_is_none(settings: Any, value: str) -> None:
    settings.CHRONIKER_SITE_URL = value
    assert ids() == ["chroniker.E020"]


@pytest.mark.parametrize("path", ["no.such.Thing", "builtins.dict", "os.path.join", "nodots"])
def test_a_notifier_that_is_none(settings: Any, path: str) -> None:
    settings.CHRONIKER_NOTIFIERS = [path]
    assert ids() == ["chroniker.E021"]


def test_a_notifier_that_is_no_name(settings: Any) -> None:
    settings.CHRONIKER_NOTIFIERS = [3]
    assert ids() == ["chroniker.E009"]


def test_a_webhook_without_a_secret(settings: Any) -> None:
    settings.CHRONIKER_NOTIFIERS = ["chroniker.alerting.webhook.Webhook"]
    settings.CHRONIKER_WEBHOOK_URL = "https://example.com/hook"
    assert ids() == ["chroniker.E022"]
    settings.CHRONIKER_WEBHOOK_SECRET = "a secret"
    assert ids() == []


def test_a_prefix_of_two_lines(settings: Any) -> None:
    settings.CHRONIKER_EMAIL_SUBJECT_PREFIX = "[a]\nBcc: all@example.com"
    assert ids() == ["chroniker.E023"]


def test_settings_that_are_right(settings: Any) -> None:
    settings.CHRONIKER_EMAIL_SENDER = "Cron"
    settings.CHRONIKER_EMAIL_HOST_USER = "cron@example.com"
    settings.CHRONIKER_SITE_URL = "https://shop.example.com"
    settings.CHRONIKER_NOTIFIERS = ["tests.support.processes.notifiers.HangingNotifier"]
    assert ids() == []
