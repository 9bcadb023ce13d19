"""What jobs raise, as events: recognisable, complete, and without secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chroniker.models import Run
from tests.sentry.jobs import due_job
from tests.sentry.receivers import Receiver
from tests.support import Ended

pytestmark = pytest.mark.django_db(transaction=True)

SentryTick = Callable[..., Ended]

CANARIES = {
    "PLAIN": "canary-7f3a-plain-feathers",
    "QUOTED": 'canary\'s "quoted"\tfeathers\\',
    "ACCENTED": "Kanarienvögel-7f3a",
}


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("deed", "kind", "text"),
    [
        ("fail boom", "ValueError", "boom"),
        ("refuse 'no such file'", "CommandError", "no such file"),
    ],
)
def test_what_a_job_raised_is_an_event_with_job_run_host_and_command(
    sentry_tick: SentryTick,
    receiver: Receiver,
    settings: Any,
    start_method: str,
    deed: str,
    kind: str,
    text: str,
) -> None:
    settings.CHRONIKER_START_METHOD = start_method
    if start_method == "fork":
        settings.CHRONIKER_HOSTNAME = "books-1"  # a spawned job reads the settings itself
    job = due_job(deed, name="Nightly import")
    sentry_tick()
    run = Run.objects.get(job=job)
    assert run.status == "failed"
    (event,) = receiver.events
    (raised,) = event["exception"]["values"]
    assert (raised["type"], raised["value"]) == (kind, text)
    assert raised["mechanism"]["handled"] is False
    names = [frame["function"] for frame in raised["stacktrace"]["frames"]]
    assert names[-1] == deed.split()[0]
    assert "call_command" not in names
    assert event["tags"] == {
        "chroniker.job": "Nightly import",
        "chroniker.run": str(run.pk),
        "chroniker.host": run.ran_on,
        "chroniker.command": "act",
    }
    assert event["transaction"] == "Nightly import"
    assert event["environment"] == "tests"


@pytest.mark.parametrize("deed", ["say hello", "leave 3", "leave_saying 'no stock left'"])
def test_a_job_that_left_by_itself_raised_nothing(
    sentry_tick: SentryTick, receiver: Receiver, deed: str
) -> None:
    due_job(deed)
    sentry_tick()
    assert len(receiver.check_ins) == 2
    assert receiver.events == []


def test_many_jobs_that_fail_at_once_are_an_event_each(
    sentry_tick: SentryTick, receiver: Receiver
) -> None:
    jobs = [due_job(f"fail boom{n}") for n in range(8)]
    sentry_tick()
    assert {event["tags"]["chroniker.job"] for event in receiver.events} == {j.name for j in jobs}
    assert len(receiver.events) == len(jobs)
    assert len(receiver.check_ins) == 2 * len(jobs)


@pytest.mark.parametrize("name", CANARIES)
def test_no_envelope_has_a_secret_in_it(
    sentry_tick: SentryTick,
    receiver: Receiver,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    secret = CANARIES[name]
    monkeypatch.setenv("VAULT_TOKEN", secret)
    due_job("betray VAULT_TOKEN", name="vault")
    settings.BOOKSHOP_API_KEY = "canary-of-the-settings"
    due_job("fail canary-of-the-settings", name="shop canary-of-the-settings")
    sentry_tick()
    assert len(receiver.events) >= 2
    assert len(receiver.check_ins) == 4
    told = "\n".join(body.decode() for body in receiver.bodies)
    assert "no vault opens with ********" in told
    assert "canary" not in told.lower()
    assert "kanarien" not in told.lower()
    assert "shop ********" in told
