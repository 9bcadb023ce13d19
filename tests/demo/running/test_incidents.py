"""The incidents of the feed, which fails every third time, and the emails about them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from chroniker.models import Incident, Notification, Run
from tests.demo.running.names import FEED


def test_each_failure_opens_an_incident_that_the_next_success_resolves() -> None:
    failed = Run.objects.filter(job__name=FEED, status="failed").order_by("id")
    incidents = list(Incident.objects.filter(job__name=FEED).order_by("id"))
    assert [incident.first_run_id for incident in incidents] == [run.pk for run in failed]
    for incident in incidents:
        assert incident.occurrences == 1
        if incident.resolved_at is None:
            assert incident == incidents[-1]
        else:
            assert incident.last_run is not None
            assert incident.last_run.status == "succeeded"


def test_no_mail_is_sent_twice_and_all_go_to_the_admin(directory: Path) -> None:
    mails = list(read_mails(directory / "mail"))
    assert mails
    assert set(Counter(mail["Message-ID"] for mail in mails).values()) == {1}
    assert {mail["To"] for mail in mails} == {"admin@bookshop.example"}


def test_each_event_of_the_feed_has_one_mail(directory: Path) -> None:
    mails = [m for m in read_mails(directory / "mail") if m["X-Chroniker-Job"] == FEED]
    found = Counter(event_of(mail) for mail in mails)
    assert set(found.values()) == {1}
    expected = set()
    for incident in Incident.objects.filter(job__name=FEED).order_by("id"):
        if incident.flapping:
            expected.add(("flapping", incident.pk))
            break
        expected.add(("opened", incident.pk))
        if incident.resolved_at is not None:
            expected.add(("resolved", incident.pk))
    # The last events may be unsent, because the scheduler was stopped.
    pending = set(
        Notification.objects.pending().filter(job__name=FEED).values_list("event", "incident")
    )
    assert expected - pending <= set(found) <= expected


def read_mails(folder: Path) -> Iterator[EmailMessage]:
    """The emails that Django's backend wrote to files."""
    for path in sorted(folder.iterdir()):
        for text in path.read_bytes().split(b"-" * 79 + b"\n"):
            if text.strip():
                yield message_from_bytes(text, policy=default)


def event_of(mail: EmailMessage) -> tuple[str, int]:
    """The event, and the incident that the email links to."""
    body = mail.get_body(("plain",))
    found = re.search(r"/admin/chroniker/incident/(\d+)/", body.get_content() if body else "")
    assert found is not None, f"{mail['Subject']!r} links to no incident"
    return mail["X-Chroniker-Event"], int(found[1])
