"""Signing and verifying webhook requests, as `Standard Webhooks`_ defines it.

A request has three headers: ``webhook-id`` (the same for each attempt), ``webhook-timestamp`` (Unix
seconds of the attempt) and ``webhook-signature``, which is ``v1,`` and the Base64 of the
HMAC-SHA256 of the id, a full stop, the timestamp, a full stop and the body. The secret is
``whsec_`` and the Base64 of 24 to 64 random bytes.

A receiver calls :func:`verify`, or uses any other library for Standard Webhooks.

.. _Standard Webhooks: https://www.standardwebhooks.com/
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from standardwebhooks import Webhook as Signer

from chroniker.exceptions import ChronikerError

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"

_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)
_TIMESTAMP = re.compile(r"[0-9]{1,11}")
_ID = re.compile(r"[0-9a-zA-Z_-]{1,200}")


class InvalidSecret(ChronikerError, ValueError):
    """The secret does not have the format of Standard Webhooks."""


class InvalidSignature(ChronikerError):
    """The request was not signed with the secret, is too old, or was received before."""


def check_secret(secret: str) -> None:
    """Raise InvalidSecret unless it is ``whsec_`` and the Base64 of 24 to 64 bytes."""
    encoded = secret.removeprefix(_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        raise InvalidSecret("The secret is not valid Base64.") from None
    if not secret.startswith(_PREFIX):
        raise InvalidSecret(f"The secret does not start with {_PREFIX}.")
    if len(key) not in _SECRET_BYTES:
        raise InvalidSecret(f"The secret has {len(key)} bytes; it needs 24 to 64.")


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a request. Raises InvalidSecret."""
    check_secret(secret)
    moment = datetime.fromtimestamp(timestamp, UTC)
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: Signer(secret).sign(message_id, moment, body.decode()),
    }


def verify(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance_seconds: float = 300,
    now: float | None = None,
    seen: Callable[[str], bool] | None = None,
) -> dict[str, object]:
    """Return the payload of a genuine, recent request.

    Parameters:
        headers: the request's headers, in any case
        body: the request's body as received, not decoded
        tolerance_seconds: how far the timestamp may differ from ``now``
        now: Unix seconds; by default the clock of this process
        seen: called last, with the signature. Returns whether it was called with the same text
            before, and remembers the text for twice ``tolerance_seconds``. Without it a request
            can be replayed as long as its timestamp is accepted.

    An attempt that is repeated because the response was lost has another signature and the same
    ``webhook-id``; use the id to process a message once. Raises InvalidSignature and InvalidSecret.
    """
    by_name = {name.lower(): value for name, value in headers.items()}
    message_id = by_name.get(ID_HEADER, "")
    timestamp = by_name.get(TIMESTAMP_HEADER, "")
    # The signed text joins its parts with full stops: no part before the body may contain one.
    if not _ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp):
        raise InvalidSignature("The headers are missing or malformed.")
    if str(int(timestamp)) != timestamp:
        raise InvalidSignature("The timestamp is malformed.")
    try:
        expected = sign(secret, message_id, int(timestamp), body)[SIGNATURE_HEADER]
    except UnicodeDecodeError:
        raise InvalidSignature("The body is not UTF-8.") from None
    given = by_name.get(SIGNATURE_HEADER, "").split(" ")  # several while a secret is replaced
    if not any(_equal(signature, expected) for signature in given):
        raise InvalidSignature("The signature does not match the id, the timestamp and the body.")
    age = (time.time() if now is None else now) - int(timestamp)
    if abs(age) > tolerance_seconds:
        raise InvalidSignature("The request was signed too long ago, or the clocks differ.")
    if seen is not None and seen(expected):
        raise InvalidSignature("The request was received before.")
    payload: dict[str, object] = json.loads(body)
    return payload


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "backslashreplace"), expected.encode())
