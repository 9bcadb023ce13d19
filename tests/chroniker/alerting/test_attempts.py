"""Attempts to send a notification, as its row records them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from chroniker.alerting.attempts import FAILURES_COUNTER, UNFINISHED, ClaimedNotification
from chroniker.alerting.relevance import OPENING_WAIT
from chroniker.models import Counter, Notification
from tests.factories import NOON, make_incident, make_notification

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

CLAIM_ENDS = NOON + timedelta(seconds=80)
MAX_AGE = timedelta(days=7)


def claimed(*, age: timedelta = timedelta(minutes=1), **fields: Any) -> ClaimedNotification:
    """A notification claimed at noon, until :data:`CLAIM_ENDS`."""
    row = {"created_at": NOON - age, "next_attempt_at": CLAIM_ENDS, "claim_token": "mine"}
    notification = make_notification(make_incident(), "key", **row | fields)
    return ClaimedNotification(notification, "mine")


def stored() -> Notification:
    return Notification.objects.get()


def test_attempt_counts_as_failed_until_it_ends() -> None:
    attempt = claimed(attempts=2)
    assert attempt.begin(NOON)
    row = stored()
    assert (row.attempts, row.attempt_unfinished, row.last_error) == (3, True, UNFINISHED)
    assert (row.sent_at, row.claim_token) == (None, "mine")


@pytest.mark.parametrize(
    ("attempts", "retry_at"), [(0, CLAIM_ENDS), (3, NOON + timedelta(seconds=240))]
)
def test_unfinished_attempt_is_retried_after_its_claim_and_its_delay(
    attempts: int, retry_at: datetime
) -> None:
    claimed(attempts=attempts).begin(NOON)
    assert stored().next_attempt_at == retry_at


def test_sent_notification_has_only_its_failed_attempts() -> None:
    attempt = claimed(attempts=2, last_error="refused")
    attempt.begin(NOON)
    attempt.record_sent(NOON)
    row = stored()
    assert (row.sent_at, row.dropped_at, row.next_attempt_at) == (NOON, None, None)
    assert (row.attempts, row.attempt_unfinished, row.last_error) == (2, False, "")
    assert row.claim_token == ""


def test_failure_is_counted_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    attempt = claimed(attempts=2)
    attempt.begin(NOON)
    attempt.record_failure(ValueError("not\ntoday"), NOON)
    row = stored()
    assert (row.attempts, row.attempt_unfinished, row.claim_token) == (3, False, "")
    assert row.last_error == "ValueError: not today"
    assert row.next_attempt_at == NOON + timedelta(seconds=120)
    assert (row.sent_at, row.dropped_at) == (None, None)
    assert Counter.objects.read(FAILURES_COUNTER) == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "will be retried in 0:02:00: ValueError: not today" in caplog.text


def test_notification_is_dropped_once_it_is_older_than_the_limit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempt = claimed(age=MAX_AGE)
    attempt.record_failure(ValueError("no"), NOON)
    assert stored().next_attempt_at is not None and stored().dropped_at is None
    Notification.objects.update(claim_token="mine")
    attempt.record_failure(ValueError("no"), NOON + timedelta(seconds=1))
    assert stored().dropped_at == NOON + timedelta(seconds=1)
    assert stored().next_attempt_at is None
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.WARNING, logging.ERROR]
    assert "was dropped: ValueError: no" in caplog.text
    assert Counter.objects.read(FAILURES_COUNTER) == 2


@pytest.mark.parametrize("unfinished", [True, False])
@pytest.mark.parametrize("old", [True, False])
def test_only_an_old_unfinished_attempt_is_dropped_before_it_is_repeated(
    unfinished: bool, old: bool
) -> None:
    age = MAX_AGE + timedelta(seconds=1) if old else timedelta(hours=1)
    attempt = claimed(age=age, attempt_unfinished=unfinished, attempts=4)
    assert attempt.drop_unfinished(NOON) == (unfinished and old)
    row = stored()
    if unfinished and old:
        assert (row.dropped_at, row.attempt_unfinished, row.next_attempt_at) == (NOON, False, None)
        assert row.last_error == "The sender process died during delivery."
    else:
        assert (row.dropped_at, row.last_error, row.next_attempt_at) == (None, "", CLAIM_ENDS)


def test_dropped_notification_keeps_its_attempts_and_the_reason() -> None:
    claimed(attempts=2).drop("no longer relevant", NOON)
    row = stored()
    assert (row.dropped_at, row.sent_at, row.next_attempt_at) == (NOON, None, None)
    assert (row.attempts, row.last_error, row.claim_token) == (2, "no longer relevant", "")


def test_released_notification_is_due_soon_and_unclaimed() -> None:
    claimed(attempts=2).release(NOON)
    row = stored()
    assert (row.next_attempt_at, row.claim_token) == (NOON + OPENING_WAIT, "")
    assert (row.attempts, row.last_error) == (2, "")


@pytest.mark.parametrize(
    "change",
    [
        lambda attempt: attempt.begin(NOON),
        lambda attempt: attempt.record_sent(NOON),
        lambda attempt: attempt.record_failure(ValueError("no"), NOON),
        lambda attempt: attempt.drop("no", NOON),
        lambda attempt: attempt.release(NOON),
    ],
)
@pytest.mark.parametrize("lost", [{"claim_token": "other"}, {"next_attempt_at": None}])
def test_lost_claim_changes_nothing(
    change: Callable[[ClaimedNotification], object], lost: dict[str, Any]
) -> None:
    attempt = claimed()
    other = make_notification(make_incident(), "other", claim_token="mine")
    Notification.objects.exclude(pk=other.pk).update(**lost)
    before = list(Notification.objects.order_by("pk").values())
    assert not change(attempt)
    assert list(Notification.objects.order_by("pk").values()) == before


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(""), "ValueError: ValueError"),
        (OSError(" a\n\tb \0c "), "OSError: a b c"),
        (OSError("half a surrogate \udcff"), "OSError: half a surrogate \\udcff"),
        (ValueError("x" * 600), "ValueError: " + "x" * 488),
    ],
)
def test_error_is_one_line_that_can_be_stored(error: Exception, text: str) -> None:
    claimed().record_failure(error, NOON)
    assert stored().last_error == text


def test_secret_at_the_end_of_a_long_error_is_masked(settings: Any) -> None:
    settings.CHAT_TOKEN = "canary-of-the-chat-1234"
    claimed().record_failure(ValueError("x" * 475 + settings.CHAT_TOKEN), NOON)
    assert "canary" not in stored().last_error
