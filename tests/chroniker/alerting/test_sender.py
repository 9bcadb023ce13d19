"""A tick sends notifications from a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from chroniker.alerting.attempts import FAILURES_COUNTER, UNFINISHED
from chroniker.alerting.notifiers import Notifier
from chroniker.alerting.sender import SenderProcess
from chroniker.models import Counter, Notification, Run
from tests.factories import (
    make_action_job,
    make_due,
    make_incident,
    make_notification,
    make_subscribed_job,
)
from tests.support.mail_server import MailServer, set_mail_options, text_of
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


@pytest.mark.slow
def test_hanging_mail_server_delays_no_run_and_no_tick(
    run_tick: RunTick, settings: Any, mail_server: MailServer
) -> None:
    settings.CHRONIKER_EMAIL_TIMEOUT = 1
    settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 10
    failing = make_action_job("fail boom", subscribers=[f"user{number}" for number in range(10)])
    other = make_action_job("sleep 3", subscribers=["bob"])
    with run_silent_server() as port:
        set_mail_options(settings, host="127.0.0.1", port=port)
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
        set_mail_options(settings, host="127.0.0.1", port=port)
        assert start_tick().wait(60).exit_code == 0
    assert Run.objects.get(job=job).status == "succeeded"


def test_missing_mail_server_does_not_affect_the_run(
    run_tick: RunTick, settings: Any, mail_server: MailServer, free_port: int
) -> None:
    set_mail_options(settings, host="127.0.0.1", port=free_port)
    make_action_job("fail boom", subscribers=["ann"])
    assert run_tick().exit_code == 0
    assert Run.objects.get().status == "failed"
    assert "ChannelDown" in Notification.objects.get().last_error


def test_sender_dies_with_its_tick(
    start_tick: StartTick, settings: Any, mail_server: MailServer
) -> None:
    make_action_job("fail boom", subscribers=["ann"])
    with run_silent_server() as port:
        set_mail_options(settings, host="127.0.0.1", port=port)
        settings.CHRONIKER_EMAIL_TIMEOUT = 60
        settings.CHRONIKER_DELIVERY_TIMEOUT_SECONDS = 60
        tick = start_tick()
        wait_until(lambda: Notification.objects.exclude(claim_token="").exists(), timeout=30)
        tick.kill(signal.SIGKILL)
        tick.wait(10)
    # the fixture fails the test if the sender survives; its claims are sent again
    assert Notification.objects.get().next_attempt_at is not None


@pytest.mark.slow
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


# --- one sender process ---


class Parent:
    """The tick, as its sender process sees it."""

    def __init__(self) -> None:
        self.may_fork = True
        self.forks = 0
        self.now = datetime.now(UTC)
        reader, self.kept = os.pipe()
        os.close(reader)
        self.process = SenderProcess(
            lambda: self.now, lambda: self.may_fork, self._before_fork, lambda: [self.kept]
        )

    def _before_fork(self) -> None:
        self.forks += 1
        connection.close()

    def finish(self) -> None:
        """Poll until the process has ended."""
        deadline = time.monotonic() + 30
        while self.process.busy and time.monotonic() < deadline:
            self.process.wait(1)
            self.process.poll()
        assert not self.process.busy


@pytest.fixture
def parent(no_leftovers: object, settings: Any) -> Iterator[Parent]:
    set_mail_options(settings, "dummy")
    parent = Parent()
    yield parent
    parent.process.close()
    with contextlib.suppress(OSError):
        os.close(parent.kept)


def make_due_notification(parent: Parent, **fields: Any) -> Notification:
    row = {"next_attempt_at": parent.now, "created_at": parent.now}
    return make_notification(make_incident(), "key", **row | fields)


class Witness(Notifier):
    """Fails with the facts of its process."""

    def send(self, notification: Notification) -> None:
        handlers = {signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)}
        kept = notification.facts["file"] in open_files()
        raise ValueError(f"default={handlers == {signal.SIG_DFL}} kept={kept}")


def open_files() -> list[str]:
    """What the file descriptors of this process refer to."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(link))
    return found


def test_process_is_forked_on_request_when_something_is_due(parent: Parent) -> None:
    notification, process = make_due_notification(parent), parent.process
    process.poll()
    assert (process.busy, parent.forks) == (False, 0)
    process.request()
    assert process.busy
    process.poll()
    assert (process.busy, parent.forks) == (True, 1)
    process.request()
    process.poll()
    assert parent.forks == 1, "one at a time"
    parent.finish()
    notification.refresh_from_db()
    assert (notification.sent_at, parent.forks) == (parent.now, 1)


def test_request_without_anything_due_forks_nothing(parent: Parent) -> None:
    make_due_notification(parent, next_attempt_at=parent.now + timedelta(seconds=1))
    parent.process.request()
    parent.process.poll()
    assert (parent.process.busy, parent.forks) == (False, 0)


def test_request_waits_until_forking_is_safe(parent: Parent) -> None:
    make_due_notification(parent)
    parent.may_fork = False
    parent.process.request()
    parent.process.poll()
    assert (parent.process.busy, parent.forks) == (True, 0)
    started = time.monotonic()
    parent.process.wait(20)
    assert time.monotonic() - started < 10, "it is asked again soon"
    parent.may_fork = True
    parent.process.wait(20)
    assert time.monotonic() - started < 10, "it can be forked at once"
    parent.process.poll()
    assert parent.forks == 1
    parent.finish()


def test_idle_process_waits_as_long_as_it_is_told(parent: Parent) -> None:
    started = time.monotonic()
    parent.process.wait(0.05)
    assert time.monotonic() - started >= 0.05


def test_process_keeps_neither_signal_handlers_nor_files_of_the_tick(parent: Parent) -> None:
    file = os.readlink(f"/proc/self/fd/{parent.kept}")
    notification = make_due_notification(
        parent, channel=f"{__name__}.Witness", facts={"file": file}
    )
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        parent.process.request()
        parent.process.poll()
        parent.finish()
    finally:
        signal.signal(signal.SIGTERM, previous)
    notification.refresh_from_db()
    assert notification.last_error == "ValueError: default=True kept=False"


def test_closing_kills_the_process(parent: Parent) -> None:
    make_due_notification(parent, channel="tests.support.notifiers.HangingNotifier")
    parent.process.request()
    parent.process.poll()
    wait_until(lambda: Notification.objects.get().attempts == 1, timeout=30)
    parent.process.close()
    assert not parent.process.busy
    parent.process.close()
    assert Notification.objects.get().sent_at is None
