"""A notifier that posts signed JSON to ``CHRONIKER_WEBHOOK_URL``.

Requests are signed as Standard Webhooks defines it; see :mod:`chroniker.alerting.signatures`.
"""

from __future__ import annotations

import json
import time

from urllib3.exceptions import HTTPError

from chroniker.conf import conf
from chroniker.masking import Masker, site_secrets
from chroniker.models import Incident, Notification, Run

from .http_client import send_request
from .links import admin_link, runbook_link
from .notifiers import ChannelDown, Notifier
from .signatures import sign

_MAX_ERROR_LENGTH = 2000


class Webhook(Notifier):
    """Posts each notification. Any answer but 2xx, a redirect included, is a failure."""

    def __init__(self) -> None:
        self._masker = Masker(site_secrets())

    def send(self, notification: Notification) -> None:
        """Post one notification.

        Raises UnexpectedStatus, InvalidSecret, ValueError for a URL that is not http or https, and
        ChannelDown if there is no answer.
        """
        body = json.dumps(build_payload(notification, self._masker)).encode()
        signature = sign(conf.WEBHOOK_SECRET, notification.key, int(time.time()), body)
        try:
            send_request(
                "POST",
                conf.WEBHOOK_URL,
                seconds=conf.WEBHOOK_TIMEOUT,
                headers={"Content-Type": "application/json", **signature},
                body=body,
            )
        except (HTTPError, OSError) as error:
            raise ChannelDown(f"the webhook cannot be reached: {error}") from error


def build_payload(notification: Notification, masker: Masker) -> dict[str, object]:
    """The body of the request: type, timestamp and data. Later releases only add fields."""
    job, incident, run = notification.job, notification.incident, notification.run
    job_payload = job and {
        "id": job.pk,
        "name": masker.mask_text(job.name),
        "team": job.team,
        "severity": job.alert_severity,
        "url": admin_link(job),
    }
    topic = "incident." if incident else "run." if run else ""
    return {
        "type": f"{topic}{notification.event}",
        "timestamp": notification.created_at.isoformat(),
        "data": {
            "job": job_payload,
            "runbook_url": runbook_link(job),
            "incident": _incident_payload(incident, notification, masker) if incident else None,
            "run": _run_payload(run, masker) if run else None,
        },
    }


def _incident_payload(
    incident: Incident, notification: Notification, masker: Masker
) -> dict[str, object]:
    facts = notification.facts
    return {
        "id": incident.pk,
        "kind": incident.kind,
        "host": incident.host,
        "team": incident.team,
        "job_name": masker.mask_text(facts.get("job") or incident.job_name),
        "severity": facts.get("severity", incident.severity),
        "summary": masker.mask_text(facts.get("summary", incident.summary)),
        "opened_at": incident.opened_at.isoformat(),
        "resolved_at": facts.get("resolved_at"),
        "ended_by": facts.get("ended_by", ""),
        "resolution": masker.mask_text(facts.get("resolution") or ""),
        "occurrences": facts.get("occurrences", incident.occurrences),
        "url": admin_link(incident),
    }


def _run_payload(run: Run, masker: Masker) -> dict[str, object]:
    return {
        "id": run.pk,
        "status": run.status,
        "host": run.ran_on,
        "started_at": run.started_at and run.started_at.isoformat(),
        "duration_seconds": run.duration_seconds,
        "exit_code": run.exit_code,
        "error": masker.mask_text(run.error)[:_MAX_ERROR_LENGTH],
        "url": admin_link(run),
    }
