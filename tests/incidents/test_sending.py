"""Sending: once each, whatever the server does, and never in a job's way."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chroniker.alerting.delivery import FAILURES, UNFINISHED
from chroniker.alerting.incidents import delete_old
from chroniker.alerting.outbox import usable
from chroniker.models import Counter, Incident, JobState, Notification, Run
from tests.incidents import post
from tests.incidents.history import Story, make_user, watched_job
from tests.incidents.post import PostOffice
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

Tick = Callable[..., Any]


def due_job(deed: str, *subscribers: str, **fields: Any) -> Any:
    """A watched job whose slot of a minute ago has come."""
    return watched_job(
        *subscribers,
        command="act",
        args=deed,
        schedule="@every 1h",
        created_at=datetime.now(UTC) - timedelta(minutes=61),
        **fields,
    )


def make_due(job: Any) -> None:
    moment = datetime.now(UTC)
    JobState.objects.filter(job=job).update(next_slot_at=moment, next_run_at=moment)


# --- whole ticks ---


def test_a_tick_sends_what_its_runs_give_rise_to(run_tick: Tick, office: PostOffice) -> None:
    job = due_job("fail boom")
    assert run_tick().output == ""
    assert office.words() == ["opened"]
    assert "ValueError: boom" in post.text_of(office.mails[0])
    job.args = "say fine"
    job.save()
    make_due(job)
    run_tick()
    make_due(job)
    run_tick()
    assert office.words() == ["opened", "resolved"]


def test_what_a_tick_left_is_sent_by_the_next(run_tick: Tick, office: PostOffice) -> None:
    due_job("fail boom")
    office.refuse.add("*")
    assert run_tick().exit_code == 0
    assert Run.objects.get().status == "failed"
    pending = Notification.objects.get()
    assert pending.attempts == 1 and "451" in pending.last_error
    assert Counter.objects.read(FAILURES) == 1
    office.refuse.clear()
    run_tick()
    assert office.mails == [], "it waits before it tries again"
    Notification.objects.update(next_attempt_at=datetime.now(UTC))
    run_tick()
    assert office.words() == ["opened"]
    run_tick()
    assert office.words() == ["opened"]
    assert Counter.objects.read(FAILURES) == 1


def test_ticks_at_the_same_time_send_each_once(
    start_tick: Tick, office: PostOffice, settings: Any
) -> None:
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 60
    names = [f"user{number}" for number in range(30)]
    job = watched_job(*names)
    story = Story()
    story.now = datetime.now(UTC)
    story.one(job, "F")
    assert Notification.objects.pending().count() == 30
    ticks = [start_tick() for _ in range(3)]
    for tick in ticks:
        assert tick.wait(60).exit_code == 0
    if Notification.objects.pending().exists():
        start_tick().wait(60)
    assert sorted(str(mail["To"]) for mail in office.mails) == sorted(
        f"{name}@example.com" for name in names
    )


def test_a_server_that_hangs_holds_no_run_and_no_tick_back(
    run_tick: Tick, settings: Any, office: PostOffice
) -> None:
    settings.CHRONIKER_EMAIL_TIMEOUT = 1
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 10
    failing = due_job("fail boom", *[f"user{number}" for number in range(10)])
    other = due_job("sleep 3", "bob")
    with post.black_hole() as port:
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
    start_tick: Tick, settings: Any, office: PostOffice, tmp_path: Path
) -> None:
    settings.CHRONIKER_LEASE_SECONDS = 5
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.3
    settings.CHRONIKER_EMAIL_TIMEOUT = 6
    started = tmp_path / "started"
    due_job("fail boom")
    job = due_job(f"sleep 7 {started}", "bob")
    with post.black_hole() as port:
        settings.EMAIL_PORT = port
        assert start_tick().wait(60).exit_code == 0
    assert Run.objects.get(job=job).status == "succeeded"


def test_a_mail_server_that_is_not_there_changes_nothing_for_the_run(
    run_tick: Tick, settings: Any, office: PostOffice, free_port: int
) -> None:
    settings.EMAIL_PORT = free_port
    due_job("fail boom")
    assert run_tick().exit_code == 0
    assert Run.objects.get().status == "failed"
    assert "ChannelDown" in Notification.objects.get().last_error


def test_a_sender_dies_with_its_tick(start_tick: Tick, settings: Any, office: PostOffice) -> None:
    due_job("fail boom")
    with post.black_hole() as port:
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
    run_tick: Tick, settings: Any, office: PostOffice
) -> None:
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 1
    settings.CHRONIKER_NOTIFIERS = ["tests.incidents.channels.Stuck"]
    due_job("fail boom")
    ended = run_tick()
    assert ended.exit_code == 0
    assert ended.seconds < 60
    assert Notification.objects.get(channel__endswith="Stuck").sent_at is None


def test_a_tick_that_is_killed_after_the_mail_was_taken_sends_it_once_more_as_the_same_mail(
    start_tick: Tick, run_tick: Tick, settings: Any, office: PostOffice
) -> None:
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = settings.CHRONIKER_EMAIL_TIMEOUT = 60
    job = due_job("fail boom")
    office.silent = True
    tick = start_tick()
    wait_until(lambda: len(office.mails) == 1, timeout=30)
    tick.kill(signal.SIGKILL)
    tick.wait(10)
    office.silent = False
    assert Run.objects.get(job=job).status == "failed"
    for _ in range(2):
        Notification.objects.pending().update(next_attempt_at=datetime.now(UTC))
        run_tick()
    first, second = office.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert Notification.objects.get().sent_at is not None


def test_a_server_that_takes_a_mail_and_says_nothing_changes_nothing_for_the_run(
    run_tick: Tick, settings: Any, office: PostOffice
) -> None:
    settings.CHRONIKER_EMAIL_TIMEOUT = 1
    job = due_job("fail boom", "ann", "bob")
    office.silent = True
    ended = run_tick()
    office.silent = False
    assert ended.exit_code == 0 and ended.seconds < 60
    assert Run.objects.get(job=job).status == "failed"
    assert Notification.objects.pending().count() == 2
    assert len(office.mails) == 1, "the other was spared the same wait"


def test_what_makes_a_sender_hang_or_die_holds_nothing_else_back_for_ever(
    start_tick: Tick, settings: Any, office: PostOffice
) -> None:
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 60
    settings.CHRONIKER_NOTIFIERS = ["tests.incidents.channels.Stuck"]
    due_job("fail boom", email_on_failure=False)
    tick = start_tick()
    stuck = Notification.objects.filter(channel__endswith="Stuck")
    wait_until(lambda: stuck.filter(attempts=1).exists(), timeout=30)
    tick.kill(signal.SIGKILL)
    tick.wait(10)
    assert stuck.get().last_error == UNFINISHED
    settings.CHRONIKER_NOTIFIERS = []
    story = Story()
    story.now = datetime.now(UTC)
    story.one(watched_job("cleo"), "F")
    stuck.update(next_attempt_at=datetime.now(UTC) - timedelta(hours=1))
    tick = start_tick()
    wait_until(lambda: len(office.mails) == 1, timeout=30)
    wait_until(lambda: stuck.filter(attempts=2).exists(), timeout=30)
    tick.kill(signal.SIGKILL)
    tick.wait(10)
    assert office.mails[0]["To"] == "cleo@example.com"


# --- without processes ---


def failed_job(*subscribers: str, **fields: Any) -> Story:
    job = watched_job(*subscribers, **fields)
    story = Story()
    story.one(job, "F")
    return story


def test_it_is_tried_again_after_longer_and_longer_waits(office: PostOffice) -> None:
    story = failed_job()
    office.refuse.add("*")
    waits = []
    for _ in range(10):
        story.send()
        again = Notification.objects.get().next_attempt_at
        assert again is not None
        waits.append((again - story.now).total_seconds())
        story.now = again
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    office.refuse.clear()
    story.send()
    assert office.words() == ["opened"]


def test_it_is_given_up_after_days_and_said_so(office: PostOffice) -> None:
    story = failed_job()
    office.refuse.add("*")
    story.later(days=8).send()
    notification = Notification.objects.get()
    assert notification.dropped_at is not None and notification.next_attempt_at is None
    assert "451" in notification.last_error
    office.refuse.clear()
    story.later(hours=1).send()
    assert office.mails == []


def test_one_refused_recipient_does_not_keep_the_others_waiting(office: PostOffice) -> None:
    office.refuse.add("bob@example.com")
    story = failed_job("ann", "bob", "cleo")
    story.send()
    assert sorted(str(mail["To"]) for mail in office.mails) == [
        "ann@example.com", "cleo@example.com",
    ]  # fmt: skip
    office.refuse.clear()
    story.later(minutes=1).send()
    assert [str(mail["To"]) for mail in office.mails][2:] == ["bob@example.com"]


def test_dying_after_data_is_the_one_point_of_a_duplicate(office: PostOffice) -> None:
    """The server took the mail and its answer was lost: it is sent again, as the same mail."""
    story = failed_job()
    office.die = 1
    story.send()
    assert len(office.mails) == 1
    assert Notification.objects.get().sent_at is None
    story.later(minutes=1).send()
    first, second = office.mails
    assert first["Message-ID"] == second["Message-ID"]
    story.later(hours=1).send()
    assert len(office.mails) == 2


def test_what_a_dead_sender_had_claimed_comes_after_its_time(office: PostOffice) -> None:
    story = failed_job()
    keys = list(Notification.objects.values_list("pk", flat=True))
    until = story.now + timedelta(seconds=80)
    assert Notification.objects.claim(keys, "dead", story.now, until) == 1
    assert Notification.objects.claim(keys, "other", story.now, until) == 0
    story.later(seconds=79).send()
    assert office.mails == []
    story.later(seconds=2).send()
    assert office.words() == ["opened"]


def test_a_mail_that_the_server_cannot_bear_holds_nothing_else_back(
    office: PostOffice, settings: Any
) -> None:
    story = failed_job("ann", "bob")
    office.die = 1
    story.send()
    poison = str(office.mails[0]["To"])
    office.refuse.add(poison)
    story.later(minutes=5).send()
    assert {str(mail["To"]) for mail in office.mails} == {"ann@example.com", "bob@example.com"}


def test_a_channel_that_does_not_exist_is_an_error_and_not_an_end(
    office: PostOffice, settings: Any
) -> None:
    settings.CHRONIKER_NOTIFIERS = ["no.such.Channel"]
    story = failed_job()
    story.send()
    assert office.words() == ["opened"]
    assert "No module" in Notification.objects.pending().get().last_error


@pytest.mark.parametrize("channel", ["Clumsy", "Cut"])
def test_a_channel_that_has_trouble_with_a_database_holds_nothing_else_back(
    office: PostOffice, settings: Any, channel: str
) -> None:
    settings.CHRONIKER_NOTIFIERS = [f"tests.incidents.channels.{channel}"]
    story = failed_job()
    story.later(seconds=1).one(watched_job("bob"), "F")
    story.send()
    assert office.words() == ["opened", "opened"]
    assert {one.attempts for one in Notification.objects.pending()} == {1}


def test_ends_that_wait_for_their_openings_do_not_keep_these_waiting(office: PostOffice) -> None:
    """Each would be looked at again every few seconds, before what failed once."""
    job = watched_job(*[f"user{number}" for number in range(30)])
    story = Story()
    story.one(job, "F")
    Notification.objects.update(attempts=3, next_attempt_at=story.now + timedelta(minutes=10))
    story.later(minutes=1).one(job, "S")
    assert story.send() == 0
    assert not Notification.objects.due(story.now + timedelta(minutes=8)).exists()
    assert story.later(minutes=10).send() == 30
    story.later(minutes=1).send()
    assert office.words() == ["opened"] * 30 + ["resolved"] * 30


def test_nothing_is_sent_of_a_job_that_was_deleted_after_it_was_claimed(
    office: PostOffice, settings: Any
) -> None:
    settings.CHRONIKER_NOTIFIERS = ["tests.incidents.channels.Sweeper"]
    story = failed_job()
    story.later(seconds=1).one(watched_job("bob"), "F")
    assert story.send() == 2
    assert [str(mail["To"]) for mail in office.mails] == ["ann@example.com"]


def test_an_error_of_a_channel_gives_no_secret_away(
    office: PostOffice, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHAT_TOKEN = "canary-of-the-chat-1234"
    settings.CHRONIKER_NOTIFIERS = ["tests.incidents.channels.Talkative"]
    story = failed_job()
    story.send()
    told = Notification.objects.pending().get().last_error
    assert "401" in told
    assert "canary" not in told + caplog.text


def test_what_was_begun_and_not_heard_of_again_is_given_up_at_last(office: PostOffice) -> None:
    story = failed_job()
    Notification.objects.update(attempts=3, last_error=UNFINISHED)
    story.later(days=6).send()
    assert office.words() == ["opened"]
    story = failed_job("bob")
    Notification.objects.pending().update(attempts=3, last_error=UNFINISHED)
    story.later(days=8).send()
    assert office.words() == ["opened"]
    assert Notification.objects.get(recipient="bob@example.com").dropped_at is not None


def test_who_is_told(office: PostOffice, settings: Any) -> None:
    from django.contrib.auth.models import Group

    group = Group.objects.create(name="on call")
    job = watched_job("ann", "gone", "dumb", "digested")
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
    Story().run(job, "F")
    assert sorted(str(mail["To"]).lower() for mail in office.mails) == [
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
def test_what_is_no_address_is_none(address: str | None, good: bool) -> None:
    assert usable(address) is good


def test_old_incidents_are_cleaned_with_their_notifications_but_nothing_that_is_open(
    office: PostOffice,
) -> None:
    old, waiting, still = (watched_job(name) for name in ("ann", "bob", "cleo"))
    story = Story()
    story.run(old, "FS")
    office.refuse.add("bob@example.com")
    story.run(waiting, "FS")
    story.run(still, "F")
    assert delete_old(story.now) == 1
    assert {one.job for one in Incident.objects.all()} == {waiting, still}
    office.refuse.clear()
    for _ in range(3):
        story.later(hours=1).send()
    story.run(still, "S")
    assert [str(mail["To"]) for mail in office.mails].count("bob@example.com") == 2
    assert office.words()[-1] == "resolved"


@pytest.mark.parametrize("wanted", [True, False])
def test_admins_are_told_only_where_the_site_says_so(
    office: PostOffice, settings: Any, wanted: bool
) -> None:
    settings.CHRONIKER_EMAIL_TO_ADMINS = wanted
    settings.ADMINS = [("Root", "root@example.com")]
    job = watched_job()
    job.subscribers.clear()
    Story().run(job, "F")
    assert [str(mail["To"]) for mail in office.mails] == ["root@example.com"] * wanted
