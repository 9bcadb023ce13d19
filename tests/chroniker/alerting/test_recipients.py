"""Who is notified about a job, and through which channel."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group

from chroniker.alerting.recipients import (
    admin_addresses,
    incident_recipients,
    is_mail_address,
    subscriber_addresses,
)
from chroniker.models import Digest, Incident, Job
from tests.factories import make_incident, make_job, make_subscribed_job, make_user
from tests.support.mail_server import MailServer
from tests.support.timeline import Timeline

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


@pytest.mark.django_db(transaction=True)
def test_active_subscribers_and_members_of_groups_get_one_mail_each(
    mail_server: MailServer,
) -> None:
    group = Group.objects.create(name="on call")
    job = make_subscribed_job("ann", "gone", "dumb", "digested")
    users = {user.username: user for user in job.subscribers.all()}
    users["gone"].is_active = False
    users["gone"].save()
    users["dumb"].email = "not an address\nBcc: all@example.com"
    users["dumb"].save()
    Digest.objects.create(user=users["digested"], digest_only=True)
    group.user_set.add(make_user("bob"), make_user("dora", email="ANN@example.com"))
    users["ann"].groups.add(group)
    job.subscriber_groups.add(group)
    Timeline().run(job, "F")
    assert sorted(str(mail["To"]).lower() for mail in mail_server.mails) == [
        "ann@example.com", "bob@example.com",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("ann@example.com", True),
        ("root@mailhost", True),
        ("jörg@exämple.de", True),
        ("", False),
        (None, False),
        ("ann", False),
        ("ann@", False),
        ("a@b.c\nBcc: d@e.f", False),
        ("a@b.c, d@e.f", False),
        ("Ann <ann@example.com>", False),
        ("ann@example.com\x00", False),
        ("x" * 251 + "@b.c", False),
    ],
)
def test_mail_address_is_valid(address: str | None, good: bool) -> None:
    assert is_mail_address(address) is good


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("wanted", [True, False])
def test_admins_are_notified_only_if_configured(
    mail_server: MailServer, settings: Any, wanted: bool
) -> None:
    settings.CHRONIKER_EMAIL_TO_ADMINS = wanted
    settings.ADMINS = [("Root", "root@example.com")]
    job = make_subscribed_job()
    job.subscribers.clear()
    Timeline().run(job, "F")
    assert [str(mail["To"]) for mail in mail_server.mails] == ["root@example.com"] * wanted


def test_incident_is_reported_by_mail_and_by_every_notifier(settings: Any) -> None:
    settings.CHRONIKER_NOTIFIERS = ["site.Chat", "site.Pager", "site.Chat"]
    job = make_subscribed_job("bob", "ann")
    notifiers = [("site.Chat", ""), ("site.Pager", "")]
    assert incident_recipients(make_incident(job)) == [
        ("mail", "ann@example.com"), ("mail", "bob@example.com"), *notifiers,
    ]  # fmt: skip
    Job.objects.update(email_on_failure=False)
    assert incident_recipients(Incident.objects.get()) == notifiers


def test_address_in_another_case_is_one_address() -> None:
    job = make_subscribed_job("ann")
    job.subscribers.add(make_user("ann2", email="ANN@example.com"))
    assert [address.lower() for address in subscriber_addresses([job.pk])] == ["ann@example.com"]


def test_group_member_is_not_a_recipient_of_other_jobs() -> None:
    group = Group.objects.create(name="on call")
    group.user_set.add(make_user("bob"))
    job, other = make_job(), make_job()
    job.subscriber_groups.add(group)
    assert subscriber_addresses([job.pk]) == ["bob@example.com"]
    assert subscriber_addresses([other.pk]) == []


def test_digest_in_addition_to_mails_changes_no_recipient() -> None:
    job = make_subscribed_job("ann")
    Digest.objects.create(user=job.subscribers.get(), digest_only=False)
    assert subscriber_addresses([job.pk]) == ["ann@example.com"]


def _unsubscribed() -> Job:
    return make_job()


def _inactive() -> Job:
    job = make_subscribed_job("ann")
    job.subscribers.update(is_active=False)
    return job


def _digest_only() -> Job:
    job = make_subscribed_job("ann")
    Digest.objects.create(user=job.subscribers.get(), digest_only=True)
    return job


def _without_address() -> Job:
    job = make_job()
    job.subscribers.add(make_user("ann", email=""))
    return job


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_unsubscribed, ["root@example.com"]),
        (_inactive, ["root@example.com"]),
        (_digest_only, []),
        (_without_address, []),
        (make_subscribed_job, ["ann@example.com"]),
    ],
)
def test_admins_are_notified_only_if_nobody_is_subscribed(
    settings: Any, make: Any, expected: list[str]
) -> None:
    settings.CHRONIKER_EMAIL_TO_ADMINS = True
    settings.ADMINS = ["root@example.com"]
    assert subscriber_addresses([make().pk]) == expected


def test_admins_may_be_strings_and_pairs(settings: Any) -> None:
    settings.ADMINS = ["a@example.com", ("Bo", "b@example.com"), "nobody", ("Cy", "")]
    assert admin_addresses() == ["a@example.com", "b@example.com"]


def test_address_has_at_most_254_characters() -> None:
    assert is_mail_address("x" * 248 + "@b.com")
    assert not is_mail_address("x" * 249 + "@b.com")


def test_only_an_address_that_is_not_empty_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert not is_mail_address("")
    assert caplog.messages == []
    assert not is_mail_address("ann")
    assert "'ann' is not an email address" in caplog.text
