"""A tick sends notifications from a process of its own."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chroniker.alerting.attempts import FAILURES_COUNTER, UNFINISHED
from chroniker.models import Counter, Notification, Run
from tests.factories import make_action_job, make_due, make_subscribed_job
from tests.support.mail_server import MailServer, text_of
from tests.support.processes import wait_until
from tests.support.silent_server import run_silent_server
from tests.support.timeline import Timeline
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


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
    assert Counter.objects.read(FAILURES_COUNTER) == 1
    mail_server.refuse.clear()
    run_tick()
    assert mail_server.mails == [], "it waits before it tries again"
    Notification.objects.update(next_attempt_at=datetime.now(UTC))
    run_tick()
    assert mail_server.event_names() == ["opened"]
    run_tick()
    assert mail_server.event_names() == ["opened"]
    assert Counter.objects.read(FAILURES_COUNTER) == 1


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
    assert Counter.objects.read(FAILURES_COUNTER) == 1, "the others were spared the same wait"


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


def test_missing_mail_server_does_not_affect_the_run(
    run_tick: RunTick, settings: Any, mail_server: MailServer, free_port: int
) -> None:
    settings.EMAIL_PORT = free_port
    make_action_job("fail boom", subscribers=["ann"])
    assert run_tick().exit_code == 0
    assert Run.objects.get().status == "failed"
    assert "ChannelDown" in Notification.objects.get().last_error


def test_sender_dies_with_its_tick(
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
    # the fixture fails the test if the sender survives; its claims are sent again
    assert Notification.objects.get().next_attempt_at is not None


def test_slow_sender_is_terminated(
    run_tick: RunTick, settings: Any, mail_server: MailServer
) -> None:
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 1
    settings.CHRONIKER_NOTIFIERS = ["tests.support.notifiers.HangingNotifier"]
    make_action_job("fail boom", subscribers=["ann"])
    ended = run_tick()
    assert ended.exit_code == 0
    assert ended.seconds < 60
    assert Notification.objects.get(channel__endswith="HangingNotifier").sent_at is None


def test_mail_resent_after_a_killed_tick_has_the_same_message_id(
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


def test_mail_server_without_reply_does_not_affect_the_run(
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
