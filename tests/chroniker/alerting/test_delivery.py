"""Sending: once each, whatever the server does, and never in a job's way."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chroniker.alerting.delivery import FAILURES, UNFINISHED
from chroniker.alerting.incidents import delete_old
from chroniker.alerting.outbox import usable
from chroniker.models import Counter, Incident, Notification, Run
from tests.factories import make_action_job, make_due, make_subscribed_job, make_user
from tests.support.mail_server import MailServer, run_silent_server, text_of
from tests.support.processes import wait_until
from tests.support.timeline import Timeline
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


# --- whole ticks ---


def test_tick_sends_notifications_of_its_runs(run_tick: RunTick, mail_server: MailServer) -> None:
    job = make_action_job("fail boom", subscribers=["ann"])
    assert run_tick().output == ""
    assert mail_server.event_names() == ["opened"]
    assert "ValueError: boom" in text_of(mail_server.mails[0])
    job.args = "say fine"
    job.save()
    make_due(job)
    run_tick()
    make_due(job)
    run_tick()
    assert mail_server.event_names() == ["opened", "resolved"]


def test_pending_notifications_are_sent_by_the_next_tick(
    run_tick: RunTick, mail_server: MailServer
) -> None:
    make_action_job("fail boom", subscribers=["ann"])
    mail_server.refuse.add("*")
    assert run_tick().exit_code == 0
    assert Run.objects.get().status == "failed"
    pending = Notification.objects.get()
    assert pending.attempts == 1 and "451" in pending.last_error
    assert Counter.objects.read(FAILURES) == 1
    mail_server.refuse.clear()
    run_tick()
    assert mail_server.mails == [], "it waits before it tries again"
    Notification.objects.update(next_attempt_at=datetime.now(UTC))
    run_tick()
    assert mail_server.event_names() == ["opened"]
    run_tick()
    assert mail_server.event_names() == ["opened"]
    assert Counter.objects.read(FAILURES) == 1


def test_ticks_at_the_same_time_send_each_once(
    start_tick: StartTick, mail_server: MailServer, settings: Any
) -> None:
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 60
    names = [f"user{number}" for number in range(30)]
    job = make_subscribed_job(*names)
    timeline = Timeline()
    timeline.now = datetime.now(UTC)
    timeline.run_once(job, "F")
    assert Notification.objects.pending().count() == 30
    ticks = [start_tick() for _ in range(3)]
    for tick in ticks:
        assert tick.wait(60).exit_code == 0
    if Notification.objects.pending().exists():
        start_tick().wait(60)
    assert sorted(str(mail["To"]) for mail in mail_server.mails) == sorted(
        f"{name}@example.com" for name in names
    )


def test_hanging_mail_server_delays_no_run_and_no_tick(
    run_tick: RunTick, settings: Any, mail_server: MailServer
) -> None:
    settings.CHRONIKER_EMAIL_TIMEOUT = 1
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 10
    failing = make_action_job("fail boom", subscribers=[f"user{number}" for number in range(10)])
    other = make_action_job("sleep 3", subscribers=["bob"])
    with run_silent_server() as port:
        settings.EMAIL_PORT = port
        ended = run_tick()
    assert ended.exit_code == 0
    assert ended.seconds < 60
    assert Run.objects.get(job=failing).status == "failed"
    assert Run.objects.get(job=other).status == "succeeded"
    assert Notification.objects.pending().count() == 10
    assert Counter.objects.read(FAILURES) == 1, "the others were spared the same wait"


@pytest.mark.slow
def test_while_mails_hang_leases_are_renewed(
    start_tick: StartTick, settings: Any, mail_server: MailServer, tmp_path: Path
) -> None:
    settings.CHRONIKER_LEASE_SECONDS = 5
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.3
    settings.CHRONIKER_EMAIL_TIMEOUT = 6
    started = tmp_path / "started"
    make_action_job("fail boom", subscribers=["ann"])
    job = make_action_job(f"sleep 7 {started}", subscribers=["bob"])
    with run_silent_server() as port:
        settings.EMAIL_PORT = port
        assert start_tick().wait(60).exit_code == 0
    assert Run.objects.get(job=job).status == "succeeded"


def test_a_mail_server_that_is_not_there_changes_nothing_for_the_run(
    run_tick: RunTick, settings: Any, mail_server: MailServer, free_port: int
) -> None:
    settings.EMAIL_PORT = free_port
    make_action_job("fail boom", subscribers=["ann"])
    assert run_tick().exit_code == 0
    assert Run.objects.get().status == "failed"
    assert "ChannelDown" in Notification.objects.get().last_error


def test_a_sender_dies_with_its_tick(
    start_tick: StartTick, settings: Any, mail_server: MailServer
) -> None:
    make_action_job("fail boom", subscribers=["ann"])
    with run_silent_server() as port:
        settings.EMAIL_PORT = port
        settings.CHRONIKER_EMAIL_TIMEOUT = 60
        settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 60
        tick = start_tick()
        wait_until(lambda: Notification.objects.exclude(claim_token="").exists(), timeout=30)
        tick.kill(signal.SIGKILL)
        tick.wait(10)
    # the fixture fails the test if the sender lives on; what it had claimed comes again
    assert Notification.objects.get().next_attempt_at is not None


def test_a_sender_that_takes_too_long_is_ended(
    run_tick: RunTick, settings: Any, mail_server: MailServer
) -> None:
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 1
    settings.CHRONIKER_NOTIFIERS = ["tests.support.notifiers.HangingNotifier"]
    make_action_job("fail boom", subscribers=["ann"])
    ended = run_tick()
    assert ended.exit_code == 0
    assert ended.seconds < 60
    assert Notification.objects.get(channel__endswith="HangingNotifier").sent_at is None


def test_a_tick_that_is_killed_after_the_mail_was_taken_sends_it_once_more_as_the_same_mail(
    start_tick: StartTick, run_tick: RunTick, settings: Any, mail_server: MailServer
) -> None:
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = settings.CHRONIKER_EMAIL_TIMEOUT = 60
    job = make_action_job("fail boom", subscribers=["ann"])
    mail_server.silent = True
    tick = start_tick()
    wait_until(lambda: len(mail_server.mails) == 1, timeout=30)
    tick.kill(signal.SIGKILL)
    tick.wait(10)
    mail_server.silent = False
    assert Run.objects.get(job=job).status == "failed"
    for _ in range(2):
        Notification.objects.pending().update(next_attempt_at=datetime.now(UTC))
        run_tick()
    first, second = mail_server.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert Notification.objects.get().sent_at is not None


def test_a_server_that_takes_a_mail_and_says_nothing_changes_nothing_for_the_run(
    run_tick: RunTick, settings: Any, mail_server: MailServer
) -> None:
    settings.CHRONIKER_EMAIL_TIMEOUT = 1
    job = make_action_job("fail boom", subscribers=["ann", "bob"])
    mail_server.silent = True
    ended = run_tick()
    mail_server.silent = False
    assert ended.exit_code == 0 and ended.seconds < 60
    assert Run.objects.get(job=job).status == "failed"
    assert Notification.objects.pending().count() == 2
    assert len(mail_server.mails) == 1, "the other was spared the same wait"


def test_poison_notification_does_not_block_others_forever(
    start_tick: StartTick, settings: Any, mail_server: MailServer
) -> None:
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 60
    settings.CHRONIKER_NOTIFIERS = ["tests.support.notifiers.HangingNotifier"]
    make_action_job("fail boom", subscribers=["ann"], email_on_failure=False)
    tick = start_tick()
    stuck = Notification.objects.filter(channel__endswith="HangingNotifier")
    wait_until(lambda: stuck.filter(attempts=1).exists(), timeout=30)
    tick.kill(signal.SIGKILL)
    tick.wait(10)
    assert stuck.get().last_error == UNFINISHED
    settings.CHRONIKER_NOTIFIERS = []
    timeline = Timeline()
    timeline.now = datetime.now(UTC)
    timeline.run_once(make_subscribed_job("cleo"), "F")
    stuck.update(next_attempt_at=datetime.now(UTC) - timedelta(hours=1))
    tick = start_tick()
    wait_until(lambda: len(mail_server.mails) == 1, timeout=30)
    wait_until(lambda: stuck.filter(attempts=2).exists(), timeout=30)
    tick.kill(signal.SIGKILL)
    tick.wait(10)
    assert mail_server.mails[0]["To"] == "cleo@example.com"


# --- without processes ---


def failed_job(*subscribers: str, **fields: Any) -> Timeline:
    job = make_subscribed_job(*subscribers, **fields)
    timeline = Timeline()
    timeline.run_once(job, "F")
    return timeline


def test_it_is_tried_again_after_longer_and_longer_waits(mail_server: MailServer) -> None:
    timeline = failed_job()
    mail_server.refuse.add("*")
    waits = []
    for _ in range(10):
        timeline.send()
        again = Notification.objects.get().next_attempt_at
        assert again is not None
        waits.append((again - timeline.now).total_seconds())
        timeline.now = again
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    mail_server.refuse.clear()
    timeline.send()
    assert mail_server.event_names() == ["opened"]


def test_delivery_is_abandoned_after_days_and_logged(mail_server: MailServer) -> None:
    timeline = failed_job()
    mail_server.refuse.add("*")
    timeline.advance(days=8).send()
    notification = Notification.objects.get()
    assert notification.dropped_at is not None and notification.next_attempt_at is None
    assert "451" in notification.last_error
    mail_server.refuse.clear()
    timeline.advance(hours=1).send()
    assert mail_server.mails == []


def test_one_refused_recipient_does_not_keep_the_others_waiting(mail_server: MailServer) -> None:
    mail_server.refuse.add("bob@example.com")
    timeline = failed_job("ann", "bob", "cleo")
    timeline.send()
    assert sorted(str(mail["To"]) for mail in mail_server.mails) == [
        "ann@example.com", "cleo@example.com",
    ]  # fmt: skip
    mail_server.refuse.clear()
    timeline.advance(minutes=1).send()
    assert [str(mail["To"]) for mail in mail_server.mails][2:] == ["bob@example.com"]


def test_dying_after_data_is_the_one_point_of_a_duplicate(mail_server: MailServer) -> None:
    """The server took the mail and its answer was lost: it is sent again, as the same mail."""
    timeline = failed_job()
    mail_server.die = 1
    timeline.send()
    assert len(mail_server.mails) == 1
    assert Notification.objects.get().sent_at is None
    timeline.advance(minutes=1).send()
    first, second = mail_server.mails
    assert first["Message-ID"] == second["Message-ID"]
    timeline.advance(hours=1).send()
    assert len(mail_server.mails) == 2


def test_claim_of_dead_sender_expires(mail_server: MailServer) -> None:
    timeline = failed_job()
    keys = list(Notification.objects.values_list("pk", flat=True))
    until = timeline.now + timedelta(seconds=80)
    assert Notification.objects.claim(keys, "dead", timeline.now, until) == 1
    assert Notification.objects.claim(keys, "other", timeline.now, until) == 0
    timeline.advance(seconds=79).send()
    assert mail_server.mails == []
    timeline.advance(seconds=2).send()
    assert mail_server.event_names() == ["opened"]


def test_mail_that_crashes_the_server_does_not_block_others(
    mail_server: MailServer, settings: Any
) -> None:
    timeline = failed_job("ann", "bob")
    mail_server.die = 1
    timeline.send()
    poison = str(mail_server.mails[0]["To"])
    mail_server.refuse.add(poison)
    timeline.advance(minutes=5).send()
    assert {str(mail["To"]) for mail in mail_server.mails} == {"ann@example.com", "bob@example.com"}


def test_a_channel_that_does_not_exist_is_an_error_and_not_an_end(
    mail_server: MailServer, settings: Any
) -> None:
    settings.CHRONIKER_NOTIFIERS = ["no.such.Channel"]
    timeline = failed_job()
    timeline.send()
    assert mail_server.event_names() == ["opened"]
    assert "No module" in Notification.objects.pending().get().last_error


@pytest.mark.parametrize("channel", ["ProgrammingErrorNotifier", "OperationalErrorNotifier"])
def test_a_channel_that_has_trouble_with_a_database_holds_nothing_else_back(
    mail_server: MailServer, settings: Any, channel: str
) -> None:
    settings.CHRONIKER_NOTIFIERS = [f"tests.support.notifiers.{channel}"]
    timeline = failed_job()
    timeline.advance(seconds=1).run_once(make_subscribed_job("bob"), "F")
    timeline.send()
    assert mail_server.event_names() == ["opened", "opened"]
    assert {run_once.attempts for run_once in Notification.objects.pending()} == {1}


def test_ends_that_wait_for_their_openings_do_not_keep_these_waiting(
    mail_server: MailServer,
) -> None:
    """Each would be looked at again every few seconds, before what failed once."""
    job = make_subscribed_job(*[f"user{number}" for number in range(30)])
    timeline = Timeline()
    timeline.run_once(job, "F")
    Notification.objects.update(attempts=3, next_attempt_at=timeline.now + timedelta(minutes=10))
    timeline.advance(minutes=1).run_once(job, "S")
    assert timeline.send() == 0
    assert not Notification.objects.due(timeline.now + timedelta(minutes=8)).exists()
    assert timeline.advance(minutes=10).send() == 30
    timeline.advance(minutes=1).send()
    assert mail_server.event_names() == ["opened"] * 30 + ["resolved"] * 30


def test_nothing_is_sent_of_a_job_that_was_deleted_after_it_was_claimed(
    mail_server: MailServer, settings: Any
) -> None:
    settings.CHRONIKER_NOTIFIERS = ["tests.support.notifiers.JobDeletingNotifier"]
    timeline = failed_job()
    timeline.advance(seconds=1).run_once(make_subscribed_job("bob"), "F")
    assert timeline.send() == 2
    assert [str(mail["To"]) for mail in mail_server.mails] == ["ann@example.com"]


def test_channel_error_leaks_no_secret(
    mail_server: MailServer, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHAT_TOKEN = "canary-of-the-chat-1234"
    settings.CHRONIKER_NOTIFIERS = ["tests.support.notifiers.SecretLeakingNotifier"]
    timeline = failed_job()
    timeline.send()
    told = Notification.objects.pending().get().last_error
    assert "401" in told
    assert "canary" not in told + caplog.text


def test_delivery_of_dead_sender_is_finally_abandoned(mail_server: MailServer) -> None:
    timeline = failed_job()
    Notification.objects.update(attempts=3, last_error=UNFINISHED)
    timeline.advance(days=6).send()
    assert mail_server.event_names() == ["opened"]
    timeline = failed_job("bob")
    Notification.objects.pending().update(attempts=3, last_error=UNFINISHED)
    timeline.advance(days=8).send()
    assert mail_server.event_names() == ["opened"]
    assert Notification.objects.get(recipient="bob@example.com").dropped_at is not None


def test_recipients(mail_server: MailServer, settings: Any) -> None:
    from django.contrib.auth.models import Group

    group = Group.objects.create(name="on call")
    job = make_subscribed_job("ann", "gone", "dumb", "digested")
    users = {user.username: user for user in job.subscribers.all()}
    users["gone"].is_active = False
    users["gone"].save()
    users["dumb"].email = "not an address\nBcc: all@example.com"
    users["dumb"].save()
    from chroniker.models import Digest

    Digest.objects.create(user=users["digested"], only=True)
    group.user_set.add(make_user("bob"), make_user("dora", email="ANN@example.com"))
    users["ann"].groups.add(group)
    job.subscriber_groups.add(group)
    Timeline().run(job, "F")
    assert sorted(str(mail["To"]).lower() for mail in mail_server.mails) == [
        "ann@example.com", "bob@example.com",
    ]  # fmt: skip


@pytest.mark.one_database
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
def test_invalid_address_is_skipped(address: str | None, good: bool) -> None:
    assert usable(address) is good


def test_old_incidents_are_cleaned_with_their_notifications_but_nothing_that_is_open(
    mail_server: MailServer,
) -> None:
    old, waiting, still = (make_subscribed_job(name) for name in ("ann", "bob", "cleo"))
    timeline = Timeline()
    timeline.run(old, "FS")
    mail_server.refuse.add("bob@example.com")
    timeline.run(waiting, "FS")
    timeline.run(still, "F")
    assert delete_old(timeline.now) == 1
    assert {run_once.job for run_once in Incident.objects.all()} == {waiting, still}
    mail_server.refuse.clear()
    for _ in range(3):
        timeline.advance(hours=1).send()
    timeline.run(still, "S")
    assert [str(mail["To"]) for mail in mail_server.mails].count("bob@example.com") == 2
    assert mail_server.event_names()[-1] == "resolved"


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
