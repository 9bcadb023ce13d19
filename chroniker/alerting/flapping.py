"""Flapping: incidents that open and are resolved too often for a notification each time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q

from chroniker.conf import conf
from chroniker.enums import NotificationEvent
from chroniker.models import Incident, Notification
from chroniker.models.incident import IncidentQuerySet

from .notifications import notify_ended

_WINDOW = timedelta(days=1)
_MAX_INCIDENTS = 100


@dataclass(frozen=True, slots=True)
class FlapHistory:
    """What the incidents of one job, placement and kind did within a day."""

    flips: int
    """Openings and resolutions since flapping last ended."""
    is_flapping: bool
    """Whether the latest incident is flapping."""

    @property
    def has_too_many_flips(self) -> bool:
        """Whether the flips exceed ``CHRONIKER_FLAPPING_FLIPS``."""
        return self.flips > conf.FLAPPING_FLIPS


def read_history(incidents: IncidentQuerySet, now: datetime, *, new_flips: int = 0) -> FlapHistory:
    """Count the flips of the incidents of a placement, and ``new_flips`` that are not saved."""
    since = now - _WINDOW
    announced = incidents.filter(muted=False, cause=None)
    recent = announced.filter(Q(opened_at__gt=since) | Q(resolved_at__gt=since))
    rows = list(
        recent.order_by("-pk").values_list(
            "opened_at", "resolved_at", "flapping", "flapping_ended_at"
        )[:_MAX_INCIDENTS]
    )
    ends = [flapping_ended_at for *_, flapping_ended_at in rows if flapping_ended_at is not None]
    since = max([since, *ends])
    moments = [moment for row in rows for moment in row[:2] if moment is not None]
    is_flapping = bool(rows) and rows[0][2] and rows[0][3] is None
    return FlapHistory(sum(moment > since for moment in moments) + new_flips, is_flapping)


def quiet_ends_at(now: datetime) -> datetime:
    """When flapping ends if nothing happens until then."""
    return now + timedelta(seconds=conf.FLAPPING_QUIET_SECONDS)


def cancel_older_reviews(incident: Incident) -> None:
    """Cancel the reviews of older flapping incidents: flapping continues with this one."""
    same = Incident.objects.of_placement(incident.job_id, incident.host, incident.kind)
    same.filter(flapping=True).exclude(pk=incident.pk).update(next_review_at=None)


def announcement(incident: Incident) -> Incident:
    """The incident by which people know that this one flaps; itself if nobody was notified."""
    return _announcement(_flapping(incident)) or incident


def end_flapping(incident: Incident, now: datetime) -> None:
    """End the flapping of a resolved incident, and notify those who know that it flapped."""
    same = _flapping(incident)
    announced = _announcement(same)
    same.update(flapping_ended_at=now)
    if announced is not None:
        notify_ended(announced, incident, now)


def _flapping(incident: Incident) -> IncidentQuerySet:
    same = Incident.objects.of_placement(incident.job_id, incident.host, incident.kind)
    return same.filter(flapping=True, flapping_ended_at=None)


def _announcement(incidents: IncidentQuerySet) -> Incident | None:
    event = NotificationEvent.FLAPPING
    sent = Notification.objects.filter(incident__in=incidents, event=event)
    last = sent.select_related("incident__job").order_by("-pk").first()
    return last.incident if last else None
