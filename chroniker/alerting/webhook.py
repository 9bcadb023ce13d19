"""A notifier that posts JSON, signed, to ``CHRONIKER_WEBHOOK_URL``.

Three headers: ``X-Chroniker-Delivery`` (the same each time a delivery is tried),
``X-Chroniker-Timestamp`` (Unix seconds of this try) and ``X-Chroniker-Signature``, which is
``sha256=`` and the HMAC-SHA256, in hexadecimal, of the timestamp, a full stop, the delivery, a
full stop and the body. A receiver calls :func:`verify`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from chroniker import __version__
from chroniker.conf import conf
from chroniker.exceptions import ChronikerError
from chroniker.masking import Masker, site_secrets
from chroniker.models import Notification

from .notifiers import ChannelDown, Notifier, admin_link, runbook_of

SIGNATURE = "X-Chroniker-Signature"
TIMESTAMP = "X-Chroniker-Timestamp"
DELIVERY = "X-Chroniker-Delivery"
_DIGITS = re.compile(r"[0-9]{1,15}")
_PLAIN = re.compile(r"[0-9a-zA-Z_-]{1,200}")


class SignatureRefused(ChronikerError):
    """The request does not come from who has the secret, or not now."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the message elsewhere than the site has said."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Never."""


class Webhook(Notifier):
    """Posts each notification. Any answer but 2xx is a failure, and tried again later."""

    def __init__(self) -> None:
        self._masker = Masker(site_secrets())

    def send(self, notification: Notification) -> None:
        """Post it."""
        url = conf.WEBHOOK_URL
        if not url.lower().startswith(("http://", "https://")):
            raise ValueError("CHRONIKER_WEBHOOK_URL is no http or https address")
        body = json.dumps(payload(notification, self._masker)).encode()
        timestamp = str(int(time.time()))
        delivery = notification.key
        request = urllib.request.Request(  # noqa: S310
            url,
            data=body,
            method="POST",
            headers={
                "Content-Type": "application/json",
                "User-Agent": f"chroniker/{__version__}",
                DELIVERY: delivery,
                TIMESTAMP: timestamp,
                SIGNATURE: sign(conf.WEBHOOK_SECRET, timestamp, delivery, body),
            },
        )
        opener = urllib.request.build_opener(_NoRedirects)
        try:
            with opener.open(request, timeout=conf.WEBHOOK_TIMEOUT) as answer:
                answer.read(1024)
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(f"the webhook answered {error.code} {error.reason}") from None
        except OSError as error:
            raise ChannelDown(f"the webhook cannot be reached: {error}") from error


def payload(notification: Notification, masker: Masker) -> dict[str, Any]:
    """What is posted: version 1. Fields are only ever added."""
    incident, job, run = notification.incident, notification.job, notification.run
    facts = notification.facts

    def safe(text: str) -> str:
        return masker.mask_text(text)

    told: dict[str, Any] = {
        "version": 1,
        "event": notification.event,
        "created_at": notification.created_at.isoformat(),
        "job": job and {"id": job.pk, "name": safe(job.name), "url": admin_link(job)},
        "runbook_url": runbook_of(notification),
        "incident": None,
        "run": None,
    }
    if incident is not None:
        told["incident"] = {
            "id": incident.pk,
            "kind": incident.kind,
            "host": incident.host,
            "severity": facts.get("severity", incident.severity),
            "summary": safe(facts.get("summary", incident.summary)),
            "opened_at": incident.opened_at.isoformat(),
            "resolved_at": facts.get("resolved_at"),
            "resolution": safe(facts.get("resolution") or ""),
            "occurrences": facts.get("occurrences", incident.occurrences),
            "url": admin_link(incident),
        }
    if run is not None:
        told["run"] = {
            "id": run.pk,
            "status": run.status,
            "host": run.ran_on,
            "started_at": run.started_at and run.started_at.isoformat(),
            "duration_seconds": run.duration_seconds,
            "exit_code": run.exit_code,
            "error": safe(run.error)[:2000],
            "url": admin_link(run),
        }
    return told


def sign(secret: str, timestamp: str, delivery: str, body: bytes) -> str:
    """The value of ``X-Chroniker-Signature``."""
    signed = f"{timestamp}.{delivery}.".encode() + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def verify(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance_seconds: float = 300,
    now: float | None = None,
    seen: Callable[[str], bool] | None = None,
) -> dict[str, Any]:
    """The payload of a request that is genuine and new. Raises SignatureRefused.

    ``headers`` by any case of their names; ``body`` as it came, before it was decoded. ``seen``
    is asked, last, with a text that is the same each time this very request is sent: it says
    whether it has seen that before, and remembers it for ``tolerance_seconds``. Without it, a
    request can be replayed for that long. Use ``X-Chroniker-Delivery`` to act on a message once
    that was posted again because the first answer got lost.
    """
    by_name = {name.lower(): value for name, value in headers.items()}
    timestamp = by_name.get(TIMESTAMP.lower(), "")
    delivery = by_name.get(DELIVERY.lower(), "")
    given = by_name.get(SIGNATURE.lower(), "")
    if not secret:
        raise SignatureRefused("There is no secret to verify with.")
    if not _DIGITS.fullmatch(timestamp) or not _PLAIN.fullmatch(delivery):
        # What was signed has full stops between its parts: none may be moved.
        raise SignatureRefused("It is not as a delivery of ours looks.")
    expected = sign(secret, timestamp, delivery, body)
    if not hmac.compare_digest(given.encode("utf-8", "backslashreplace"), expected.encode()):
        raise SignatureRefused("The signature is not that of this body, delivery and time.")
    age = (time.time() if now is None else now) - int(timestamp)
    if abs(age) > tolerance_seconds:
        raise SignatureRefused("It was signed too long ago, or the clocks differ too much.")
    if seen is not None and seen(expected):
        raise SignatureRefused("This very request came before.")
    told: dict[str, Any] = json.loads(body)
    return told
