"""Due notifications that are no longer needed, or not needed yet."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chroniker.alerting.relevance import OPENING_WAIT, Drop, Postpone, check_relevance
from chroniker.models import Incident, Notification
from tests.factories import NOON, make_incident, make_job, make_notification

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def due(incident: Incident, event: str, key: str = "due", **fields: Any) -> Notification:
    return make_notification(incident, key, event=event, **{"next_attempt_at": NOON} | fields)


@pytest.mark.parametrize("event", ["opened", "worsened", "reminder", "flapping"])
def test_problem_that_persists_is_sent(event: str) -> None:
    assert check_relevance(due(make_incident(), event), NOON) is None


@pytest.mark.parametrize(
    ("event", "sent"),
    [("opened", True), ("flapping", True), ("worsened", False), ("reminder", False)],
)
def test_resolved_problem_is_still_sent_if_it_opens_the_thread(event: str, sent: bool) -> None:
    incident = make_incident(resolved_at=NOON)
    found = check_relevance(due(incident, event), NOON)
    assert (found is None) == sent
    if not sent:
        assert found == Drop("The incident was resolved before this could be sent.")


@pytest.mark.parametrize("event", ["opened", "worsened", "reminder", "flapping"])
def test_only_a_reminder_is_dropped_once_acknowledged(event: str) -> None:
    found = check_relevance(due(make_incident(acknowledged_at=NOON), event), NOON)
    dropped = Drop("The incident was acknowledged before this could be sent.")
    assert found == (dropped if event == "reminder" else None)


def test_notification_without_an_incident_is_sent() -> None:
    success = Notification.objects.create(
        job=make_job(), event="succeeded", channel="mail", key="x", created_at=NOON
    )
    assert check_relevance(success, NOON) is None


@pytest.mark.parametrize("event", ["opened", "worsened", "reminder", "flapping"])
def test_recovery_is_sent_after_any_earlier_notification(event: str) -> None:
    incident = make_incident(resolved_at=NOON)
    make_notification(incident, "earlier", event=event, sent_at=NOON, next_attempt_at=None)
    assert check_relevance(due(incident, "resolved"), NOON) is None


@pytest.mark.parametrize(
    "other",
    [
        {"recipient": "bob@example.com"},
        {"channel": "site.Chat"},
        {"event": "resolved"},
        {"sent_at": None, "dropped_at": NOON},
    ],
)
def test_recovery_is_dropped_without_an_opening_to_the_same_recipient(other: Any) -> None:
    incident = make_incident(resolved_at=NOON)
    earlier = {"event": "opened", "sent_at": NOON, "next_attempt_at": None}
    make_notification(incident, "earlier", **earlier | other)
    make_notification(make_incident(), "of another incident", **earlier)
    found = check_relevance(due(incident, "resolved"), NOON)
    assert found == Drop("The opening of the incident was never sent.")


@pytest.mark.parametrize("event", ["worsened", "reminder"])
def test_recovery_does_not_wait_for_what_will_be_dropped(event: str) -> None:
    incident = make_incident(resolved_at=NOON)
    due(incident, event, "earlier")
    assert isinstance(check_relevance(due(incident, "resolved"), NOON), Drop)


@pytest.mark.parametrize("event", ["opened", "flapping"])
@pytest.mark.parametrize(
    ("opening", "until"),
    [
        ({"next_attempt_at": NOON - MINUTE}, NOON + OPENING_WAIT),
        ({"next_attempt_at": NOON + 5 * MINUTE}, NOON + 5 * MINUTE),
        ({"next_attempt_at": NOON + 5 * MINUTE, "claim_token": "x"}, NOON + OPENING_WAIT),
    ],
)
def test_recovery_waits_for_its_opening(event: str, opening: Any, until: Any) -> None:
    """An opening that is being sent may be sent at any moment; its claim lasts much longer."""
    incident = make_incident(resolved_at=NOON)
    due(incident, event, "opening", **opening)
    assert check_relevance(due(incident, "resolved"), NOON) == Postpone(until)


def test_recovery_waits_for_the_latest_opening() -> None:
    incident = make_incident(resolved_at=NOON)
    for minutes in (2, 9, 5):
        moment = NOON + minutes * MINUTE
        due(incident, "flapping", f"in {minutes}", next_attempt_at=moment)
    found = check_relevance(due(incident, "resolved"), NOON)
    assert found == Postpone(NOON + 5 * MINUTE)
