"""System checks of the executors."""

from __future__ import annotations

from typing import Any

import pytest

from chroniker.executor_checks import check_executors


@pytest.mark.parametrize(
    ("executor", "own", "expected"),
    [
        ("local", {}, []),
        ("kubernetes", {}, ["chroniker.E004"]),
        ("kubernetes", {"kubernetes": "tests.testapp.unruly.__doc__"}, []),
        ("local", {"kubernetes": "nowhere.Executor"}, ["chroniker.E027"]),
    ],
)
def test_executors_are_checked(
    settings: Any, executor: str, own: dict[str, str], expected: list[str]
) -> None:
    settings.CHRONIKER_EXECUTOR, settings.CHRONIKER_EXECUTORS = executor, own
    messages = check_executors()
    assert [message.id for message in messages] == expected
    assert all(message.hint for message in messages)


def test_celery_must_be_installed_and_its_app_importable(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHRONIKER_EXECUTOR = "celery"
    monkeypatch.setattr("chroniker.executor_checks.find_spec", lambda name: None)
    (message,) = check_executors()
    assert message.id == "chroniker.E027" and "not installed" in message.msg
    monkeypatch.setattr("chroniker.executor_checks.find_spec", lambda name: object())
    assert check_executors() == []
    settings.CHRONIKER_CELERY_APP = "nowhere.app"
    (message,) = check_executors()
    assert "nowhere" in message.msg
