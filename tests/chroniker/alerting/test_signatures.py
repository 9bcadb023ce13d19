"""Webhook signatures: what is accepted, and what is not."""

from __future__ import annotations

import json
import time

import pytest
import standardwebhooks

from chroniker.alerting.signatures import (
    InvalidSecret,
    InvalidSignature,
    check_secret,
    sign,
    verify,
)

SECRET = "whsec_dGhlIHNlY3JldCBvZiB0aGUgcmVjZWl2ZXI="
OTHER_SECRET = "whsec_b3RoZXIgc2VjcmV0IG9mIHNvbWVib2R5"
BODY = b'{"event": "opened"}'


def signed(message_id: str = "1f", body: bytes = BODY, *, age: int = 0) -> dict[str, str]:
    return sign(SECRET, message_id, int(time.time()) - age, body)


def test_published_example_has_the_published_signature() -> None:
    """The example of the specification's reference implementations."""
    headers = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_genuine_request_is_accepted() -> None:
    assert verify(SECRET, signed(), BODY) == json.loads(BODY)
    upper = {name.upper(): value for name, value in signed().items()}
    assert verify(SECRET, upper, BODY) == json.loads(BODY)


def test_request_of_another_library_is_accepted() -> None:
    headers = signed()
    assert standardwebhooks.Webhook(SECRET).verify(BODY, headers) == json.loads(BODY)


def test_one_of_several_signatures_is_enough() -> None:
    """While a secret is replaced, a sender signs with both."""
    headers = signed()
    old = sign(OTHER_SECRET, "1f", int(headers["webhook-timestamp"]), BODY)["webhook-signature"]
    headers["webhook-signature"] = f"{old} v1a,unknown {headers['webhook-signature']}"
    assert verify(SECRET, headers, BODY)


@pytest.mark.parametrize("body", [BODY + b" ", b"", b"\xff"])
def test_changed_body_is_rejected(body: bytes) -> None:
    with pytest.raises(InvalidSignature):
        verify(SECRET, signed(), body)


def test_changed_id_and_timestamp_are_rejected() -> None:
    headers = signed()
    later = str(int(headers["webhook-timestamp"]) + 1)
    for name, value in [("webhook-id", "2f"), ("webhook-timestamp", later)]:
        with pytest.raises(InvalidSignature):
            verify(SECRET, {**headers, name: value}, BODY)


def test_shifted_field_boundary_is_rejected() -> None:
    body = b"1.5"
    headers = signed("1f", body)
    stamp = headers["webhook-timestamp"]
    for message_id, timestamp, rest in [
        (f"1f.{stamp}", "1", b"5"),
        ("1f", f"{stamp}.1", b"5"),
        ("", f"1f.{stamp}", body),
    ]:
        changed = {**headers, "webhook-id": message_id, "webhook-timestamp": timestamp}
        with pytest.raises(InvalidSignature):
            verify(SECRET, changed, rest)


@pytest.mark.parametrize("form", ["{}.0", "0{}", " {}", "{}e0", "+{}"])
def test_other_spelling_of_the_timestamp_is_rejected(form: str) -> None:
    headers = signed()
    headers["webhook-timestamp"] = form.format(headers["webhook-timestamp"])
    with pytest.raises(InvalidSignature):
        verify(SECRET, headers, BODY)


def test_headers_that_are_not_text_are_rejected() -> None:
    headers = signed()
    for name in headers:
        with pytest.raises(InvalidSignature):
            verify(SECRET, {**headers, name: "\udcff"}, BODY)


@pytest.mark.parametrize("signature", ["", "v1,", "v1", ",", "é", "v1,AAAA", "v1,not base64!"])
def test_missing_and_malformed_signatures_are_rejected(signature: str) -> None:
    with pytest.raises(InvalidSignature):
        verify(SECRET, {**signed(), "webhook-signature": signature}, BODY)
    with pytest.raises(InvalidSignature):
        verify(SECRET, {}, BODY)


def test_another_secret_is_rejected() -> None:
    with pytest.raises(InvalidSignature):
        verify(OTHER_SECRET, signed(), BODY)
    with pytest.raises(InvalidSecret):
        verify("", signed(), BODY)


def test_old_and_future_requests_are_rejected() -> None:
    for age in (302, -302):
        with pytest.raises(InvalidSignature, match="long ago"):
            verify(SECRET, signed(age=age), BODY)
    assert verify(SECRET, signed(age=302), BODY, tolerance_seconds=400)
    assert verify(SECRET, signed(age=302), BODY, now=time.time() - 302)


def test_replay_is_rejected_and_a_new_attempt_is_not() -> None:
    known: set[str] = set()

    def seen(text: str) -> bool:
        was_known = text in known
        known.add(text)
        return was_known

    first = signed(age=10)
    assert verify(SECRET, first, BODY, seen=seen)
    with pytest.raises(InvalidSignature, match="before"):
        verify(SECRET, first, BODY, seen=seen)
    assert verify(SECRET, signed(), BODY, seen=seen)


def test_only_a_genuine_request_is_remembered() -> None:
    calls: list[str] = []

    def seen(text: str) -> bool:
        calls.append(text)
        return False

    with pytest.raises(InvalidSignature):
        verify(OTHER_SECRET, signed(), BODY, seen=seen)
    with pytest.raises(InvalidSignature):
        verify(SECRET, signed(age=400), BODY, seen=seen)
    assert calls == []


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "a secret",
        "whsec_",
        "whsec_c2hvcnQ=",
        "dGhlIHNlY3JldCBvZiB0aGUgcmVjZWl2ZXI=",
        "whsec_dGhlIHNlY3JldCBvZiB0aGUgcmVjZWl2ZXI!",
        "whsec_" + "A" * 88,
        "whsec_ü",
    ],
)
def test_invalid_secret_is_rejected(secret: str) -> None:
    with pytest.raises(InvalidSecret):
        check_secret(secret)
    with pytest.raises(InvalidSecret):
        sign(secret, "1f", 1, BODY)


@pytest.mark.parametrize(
    "secret", [SECRET, SECRET.rstrip("="), "whsec_" + "A" * 32, "whsec_" + "A" * 86]
)
def test_valid_secret_is_accepted(secret: str) -> None:
    check_secret(secret)
    assert sign(secret, "1f", 1, BODY)["webhook-signature"].startswith("v1,")
