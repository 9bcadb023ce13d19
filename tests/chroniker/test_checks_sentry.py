"""Wrong values of these settings are found before a job fails or a machine dies."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks

CHECK_IDS = {
    "chroniker.E001",
    "chroniker.E002",
    "chroniker.E024",
    "chroniker.E025",
    "chroniker.W001",
}


def ids() -> list[str]:
    return [message.id or "" for message in run_checks() if message.id in CHECK_IDS]


def test_good_values_are_accepted(settings: Any) -> None:
    settings.CHRONIKER_JOB_ERROR_CALLBACK = "tests.support.processes.callbacks.record_call"
    settings.CHRONIKER_DEADMAN_URL = "https://hc.example.com:8443/ping/5c1f?create=1"
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 2.5
    assert ids() == []


@pytest.mark.parametrize(
    "path",
    [
        "tests.support.processes.callbacks.not_there",
        "no_such_module.at_all",
        "note",
        "tests.support.processes.callbacks.NOT_CALLABLE",
    ],
)
def test_a_callback_that_is_not_there_is_found(settings: Any, path: str) -> None:
    settings.CHRONIKER_JOB_ERROR_CALLBACK = path
    assert ids() == ["chroniker.E024"]


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
def test_a_url_that_cannot_be_fetched_is_found(settings: Any, url: str) -> None:
    settings.CHRONIKER_DEADMAN_URL = url
    assert ids() == ["chroniker.E025"]
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
def test_values_of_another_kind_are_found(
    settings: Any, name: str, value: Any, expected: str
) -> None:
    setattr(settings, name, value)
    assert ids() == [expected]
