"""Exceptions of jobs as Sentry events: complete and without secrets."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from chroniker.models import Run
from chroniker_monitors.sentry.events import mask_event
from tests.factories import make_action_job
from tests.support.processes import wait_until
from tests.support.recording_server import RecordingServer
from tests.support.types import RunSentryTick

pytestmark = pytest.mark.one_database


def test_every_text_of_an_event_is_masked() -> None:
    def mask(text: str) -> str:
        return text.replace("secret", "********")

    event = {"a secret": ["secret", ("secret", 1)], "n": None, "deep": {"er": {"secret": 1.5}}}
    assert mask_event(event, mask) == {
        "a ********": ["********", ("********", 1)],
        "n": None,
        "deep": {"er": {"********": 1.5}},
    }


CANARIES = {
    "PLAIN": "canary-7f3a-plain-feathers",
    "QUOTED": 'canary\'s "quoted"\tfeathers\\',
    "ACCENTED": "Kanarienvögel-7f3a",
}


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("action", "kind", "text"),
    [
        ("fail boom", "ValueError", "boom"),
        ("refuse 'no such file'", "CommandError", "no such file"),
    ],
)
def test_exception_of_a_job_is_an_event_with_its_context(
    sentry_tick: RunSentryTick,
    recording_server: RecordingServer,
    settings: Any,
    start_method: str,
    action: str,
    kind: str,
    text: str,
) -> None:
    settings.CHRONIKER_START_METHOD = start_method
    if start_method == "fork":
        settings.CHRONIKER_HOSTNAME = "books-1"  # a spawned job reads the settings itself
    job = make_action_job(action, name="Nightly import")
    sentry_tick()
    run = Run.objects.get(job=job)
    assert run.status == "failed"
    (event,) = recording_server.events
    (raised,) = event["exception"]["values"]
    assert (raised["type"], raised["value"]) == (kind, text)
    assert raised["mechanism"]["handled"] is False
    names = [frame["function"] for frame in raised["stacktrace"]["frames"]]
    assert names[-1] == action.split()[0]
    assert "call_command" not in names
    assert event["tags"] == {
        "chroniker.job": "Nightly import",
        "chroniker.run": str(run.pk),
        "chroniker.host": run.ran_on,
        "chroniker.command": "act",
    }
    assert event["transaction"] == "Nightly import"
    assert event["environment"] == "tests"


@pytest.mark.slow
def test_hostile_name_is_a_valid_tag(
    sentry_tick: RunSentryTick, recording_server: RecordingServer
) -> None:
    make_action_job("fail boom", name=f"<b>evil</b>\r\n\x1b[31m\u202e{'é' * 150}")
    sentry_tick()
    (event,) = recording_server.events
    tag = event["tags"]["chroniker.job"]
    assert tag.isprintable() and tag.startswith("<b>evil</b>  ") and len(tag) <= 200
    assert len({check_in["monitor_slug"] for check_in in recording_server.check_ins}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("action", ["say hello", "exit 3", "exit_with_message 'no stock left'"])
def test_job_that_exits_sends_no_event(
    sentry_tick: RunSentryTick, recording_server: RecordingServer, action: str
) -> None:
    make_action_job(action)
    sentry_tick()
    assert len(recording_server.check_ins) == 2
    assert recording_server.events == []


@pytest.mark.slow
def test_simultaneous_failures_are_separate_events(
    sentry_tick: RunSentryTick, recording_server: RecordingServer
) -> None:
    jobs = [make_action_job(f"fail boom{n}") for n in range(8)]
    sentry_tick()
    assert {event["tags"]["chroniker.job"] for event in recording_server.events} == {
        j.name for j in jobs
    }
    assert len(recording_server.events) == len(jobs)
    assert len(recording_server.check_ins) == 2 * len(jobs)


def fill_the_queue() -> None:
    """What code of the site may do in the tick before the first fork."""
    import sentry_sdk

    for number in range(3):
        sentry_sdk.capture_message(f"of the tick, {number}")
    wait_until(lambda: threading.active_count() > 1, timeout=30)


@pytest.mark.slow
def test_job_does_not_send_events_queued_in_the_scheduler(
    sentry_tick: RunSentryTick, recording_server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHRONIKER_TEST_SENTRY_FLUSH", "2")
    recording_server.mode = "hang"
    job = make_action_job("fail boom")
    sentry_tick(before=fill_the_queue)
    # The thread of the tick hangs at its first message, so all its messages wait.
    reported = [
        event["tags"].get("chroniker.job") for event in recording_server.events if "tags" in event
    ]
    assert reported == [job.name]
    messages = [event["message"] for event in recording_server.events if "message" in event]
    assert messages == ["of the tick, 0"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CANARIES)
def test_no_envelope_contains_a_secret(
    sentry_tick: RunSentryTick,
    recording_server: RecordingServer,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    secret = CANARIES[name]
    monkeypatch.setenv("VAULT_TOKEN", secret)
    make_action_job("leak_secret VAULT_TOKEN", name="vault")
    settings.BOOKSHOP_API_KEY = "canary-of-the-settings"
    make_action_job("fail canary-of-the-settings", name="shop canary-of-the-settings")
    sentry_tick()
    assert len(recording_server.events) >= 2
    assert len(recording_server.check_ins) == 4
    reported = "\n".join(body.decode() for body in recording_server.bodies)
    assert "no vault opens with ********" in reported
    assert "canary" not in reported.lower()
    assert "kanarien" not in reported.lower()
    assert "shop ********" in reported
