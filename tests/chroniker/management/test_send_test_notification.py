"""The command that tests the channels."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from chroniker.models import Notification
from tests.factories import make_subscribed_job
from tests.support.mail_server import MailServer, text_of

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


def send(*argv: str) -> str:
    out = io.StringIO()
    call_command("send_test_notification", *argv, stdout=out)
    return out.getvalue()


def test_mail_goes_to_the_given_address(mail_server: MailServer) -> None:
    assert send("--to", "me@example.com") == "mail me@example.com: sent\n"
    (mail,) = mail_server.mails
    assert (mail["To"], mail["X-Chroniker-Event"]) == ("me@example.com", "test")
    assert "Nothing is wrong" in text_of(mail)
    assert not Notification.objects.exists()


def test_whoever_is_notified_of_a_job(mail_server: MailServer) -> None:
    job = make_subscribed_job("ann", "bob")
    send("--job", job.name)
    assert sorted(str(mail["To"]) for mail in mail_server.mails) == [
        "ann@example.com", "bob@example.com",
    ]  # fmt: skip


def test_each_failure_is_named_and_the_others_are_sent(
    mail_server: MailServer, settings: Any
) -> None:
    settings.ADMINS = ["a@example.com", "b@example.com"]
    settings.CHRONIKER_NOTIFIERS = ["no.such.Notifier"]
    mail_server.refuse.add("a@example.com")
    out = io.StringIO()
    with pytest.raises(CommandError, match="2 of 3 could not be delivered"):
        call_command("send_test_notification", stdout=out)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("mail a@example.com: failed. ")
    assert lines[1] == "mail b@example.com: sent"
    assert lines[2].startswith("no.such.Notifier: failed. ModuleNotFoundError")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "There is nobody to notify"),
        (["--job", "nothing"], "no job named 'nothing'"),
        (["--to", "not an address"], "is not an email address"),
    ],
)
def test_wrong_use_says_what_to_do(settings: Any, argv: list[str], words: str) -> None:
    settings.ADMINS = []
    with pytest.raises(CommandError, match=words):
        send(*argv)
