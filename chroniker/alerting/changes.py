"""What follows when people change a job or its subscribers, or delete it.

Receivers of Django's signals, connected by the app.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models import F, Q
from django.utils.timezone import now as utc_now

from chroniker.db.transactions import run_transaction
from chroniker.enums import NotificationEvent
from chroniker.models import Incident, Job


def close_incidents(sender: object, instance: Job, **kwargs: object) -> None:
    """Close the incidents of a job that is about to be deleted, in the same transaction."""
    from .failing import close_deleted

    close_deleted(instance, utc_now())


def review_failures(
    sender: object, instance: Job, created: bool, raw: bool = False, **kwargs: object
) -> None:
    """Open or close incidents after a change of ``failures_before_alert``."""
    from .failing import review_threshold

    if not created and not raw:
        review_threshold(instance, utc_now())


def notify_subscribers(
    sender: object,
    instance: Any,  # a job; or a user or a group, whose job relation was changed
    action: str,
    reverse: bool,
    pk_set: Collection[int] | None,
    **kwargs: object,
) -> None:
    """Send new subscribers the openings of what is open."""
    if action == "post_add" and pk_set:
        _notify(Q(job__in=pk_set) if reverse else Q(job=instance.pk))


def notify_members(
    sender: object,
    instance: Any,  # a user; or a group, whose members were changed
    action: str,
    reverse: bool,
    pk_set: Collection[int] | None,
    **kwargs: object,
) -> None:
    """Send new members of a group the openings of what is open."""
    if action == "post_add" and pk_set:
        groups = {instance.pk} if reverse else set(pk_set)
        subscribed = Job.objects.filter(subscriber_groups__in=groups).order_by()
        _notify(Q(job__in=subscribed.values("pk")))


def release_folded(sender: object, instance: Incident, **kwargs: object) -> None:
    """Let a tick announce what is folded into an incident that is about to be deleted."""
    from .incidents import release_folded

    if instance.is_open:
        release_folded(instance, utc_now())


def _notify(of_jobs: Q) -> None:
    def notify_all() -> None:
        from .notifications import notify

        now = utc_now()
        still_open = Incident.objects.open().announced().filter(pk__in=announced)
        still_open.update(occurrences=F("occurrences"))  # write first
        for incident in still_open.select_related("job"):
            # Whoever has received the opening does not get it again.
            notify(NotificationEvent.OPENED, incident, now)

    concerned = Incident.objects.open().filter(of_jobs)
    causes = concerned.filter(muted=False, cause__isnull=False).order_by().values("cause")
    of_them = of_jobs | Q(pk__in=causes)
    announced = set(
        Incident.objects.open().announced().filter(of_them).values_list("pk", flat=True)
    )
    if announced:
        run_transaction(notify_all)
