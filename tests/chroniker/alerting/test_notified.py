"""Who was notified of an incident."""

from __future__ import annotations

from typing import Any

import pytest

from chroniker.alerting.notified import deliveries, summarize
from chroniker.models import Incident
from tests.factories import make_incident, make_job, make_notification, make_subscribed_job
from tests.support.mail_server import MailServer
from tests.support.timeline import START, Timeline

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]


def test_each_recipient_has_its_own_state(mail_server: MailServer) -> None:
    job, timeline = make_subscribed_job("ann", "bob"), Timeline()
    mail_server.refuse.add("bob@example.com")
    timeline.run(job, "F")
    found = {row.recipient: row for row in deliveries(Incident.objects.get())}
    assert found["ann@example.com"].sent_at is not None
    assert found["bob@example.com"].waiting and "451" in found["bob@example.com"].last_error
    assert summarize(Incident.objects.get()) == "1 recipient notified, 1 waiting."


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Nobody: the job has no subscribers, and there is no other channel."),
        ({"muted": True}, "Nobody: a maintenance window mutes it."),
        ({"resolved_at": START}, "Nobody."),
        ({"flapping": True}, "Nobody: it is flapping, and those concerned know that."),
    ],
)
def test_nobody_is_said_with_the_reason(fields: dict[str, Any], words: str) -> None:
    assert summarize(make_incident(make_job(), **fields)) == words


def test_dropped_message_notified_nobody() -> None:
    incident = make_incident()
    make_notification(incident, "1", dropped_at=START, next_attempt_at=None)
    assert summarize(incident) == "Nobody: no message could be delivered."


def test_folded_incident_shows_who_knows_of_its_cause() -> None:
    cause = make_incident()
    make_notification(cause, "1", sent_at=START, next_attempt_at=None)
    folded = make_incident(make_job(), kind="blocked", cause=cause)
    assert summarize(folded) == "Only of its cause: 1 recipient notified."
