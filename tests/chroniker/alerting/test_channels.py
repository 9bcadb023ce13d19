"""The channels of one batch."""

from __future__ import annotations

from typing import ClassVar, Self

import pytest

from chroniker.alerting.channels import Channels
from chroniker.alerting.mail import Mail
from chroniker.alerting.notifiers import Notifier

pytestmark = pytest.mark.one_database


class RecordingNotifier(Notifier):
    """Records what is done with its instances."""

    events: ClassVar[list[str]] = []

    def __enter__(self) -> Self:
        self.events.append("entered")
        return self

    def __exit__(self, *error: object) -> None:
        self.events.append("closed")


class FailingNotifier(RecordingNotifier):
    """Cannot be closed."""

    def __exit__(self, *error: object) -> None:
        raise OSError("the pipe is broken")


PATH = f"{__name__}.RecordingNotifier"


@pytest.fixture(autouse=True)
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    events: list[str] = []
    monkeypatch.setattr(RecordingNotifier, "events", events)
    return events


def test_each_channel_is_created_once_and_closed_at_the_end(events: list[str]) -> None:
    with Channels() as channels:
        assert events == []
        channel = channels.get(PATH)
        assert channels.get(PATH) is channel
        assert isinstance(channel, RecordingNotifier)
        assert events == ["entered"]
    assert events == ["entered", "closed"]


def test_mail_is_a_channel_by_its_name() -> None:
    with Channels() as channels:
        assert isinstance(channels.get("mail"), Mail)


def test_channel_that_cannot_be_closed_is_logged(
    events: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with Channels() as channels:
        channels.get(PATH)
        channels.get(f"{__name__}.FailingNotifier")
    assert events == ["entered", "entered", "closed"]
    assert "A channel could not be closed" in caplog.text
    assert "the pipe is broken" in caplog.text


def test_missing_channel_is_tried_again() -> None:
    with Channels() as channels:
        for _ in range(2):
            with pytest.raises(ImportError):
                channels.get("no.such.Channel")
