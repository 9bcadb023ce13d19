"""Notifications: the outbox of messages to be sent."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Expression, Q
from django.utils.translation import gettext_lazy as _

from chroniker.db.querysets import PrimaryQuerySet
from chroniker.enums import NotificationEvent

from .incident import Incident
from .job import Job
from .run import Run


class NotificationQuerySet(PrimaryQuerySet["Notification"]):
    """The outbox."""

    def pending(self) -> NotificationQuerySet:
        """Neither sent nor dropped."""
        return self.filter(next_attempt_at__isnull=False)

    def undelivered(self) -> NotificationQuerySet:
        """Pending, or waiting in a bundle that is."""
        waiting = Q(bundle__next_attempt_at__isnull=False, sent_at=None)
        return self.filter(Q(next_attempt_at__isnull=False) | waiting)

    def due(self, now: datetime | Expression) -> NotificationQuerySet:
        """To be sent now. A claimed one is not due until its claim expires."""
        return self.filter(next_attempt_at__lte=now)

    def claim(self, keys: list[int], token: str, now: datetime, until: datetime) -> int:
        """Claim those of the primary keys that are still due, until a moment; return how many."""
        return self.due(now).filter(pk__in=keys).update(next_attempt_at=until, claim_token=token)

    def claimed_by(self, token: str) -> NotificationQuerySet:
        """Claimed with this token."""
        return self.filter(claim_token=token, next_attempt_at__isnull=False)


class Notification(models.Model):
    """A message to one recipient through one channel.

    It is written in the transaction that it reports on, and sent after the commit.
    """

    job = models.ForeignKey(
        Job,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="notifications",
        verbose_name=_("job"),
    )
    incident = models.ForeignKey(
        Incident,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="notifications",
        verbose_name=_("incident"),
    )
    run = models.ForeignKey(
        Run, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("run")
    )
    event = models.CharField(_("event"), max_length=12, choices=NotificationEvent)
    channel = models.CharField(
        _("channel"), max_length=200, help_text=_("mail, or the dotted path of a notifier.")
    )
    recipient = models.CharField(_("recipient"), max_length=254, blank=True)
    key = models.CharField(max_length=64, unique=True, editable=False)
    """A hash of what identifies the message. No message is written twice, and its Message-ID is
    the same for each attempt."""
    facts = models.JSONField(default=dict, blank=True, editable=False)
    """The state of the incident when the message was written; the incident itself may change."""
    bundle = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="members",
        verbose_name=_("bundle"),
    )
    """The message that lists this one, and is sent instead of it."""
    created_at = models.DateTimeField(_("created"))
    next_attempt_at = models.DateTimeField(
        _("next attempt"), null=True, blank=True, help_text=_("Empty once it is sent or dropped.")
    )
    claim_token = models.CharField(max_length=36, blank=True, editable=False)
    """The claim of the process that is sending it; expires at ``next_attempt_at``."""
    attempts = models.PositiveIntegerField(_("failed attempts"), default=0)
    attempt_unfinished = models.BooleanField(default=False, editable=False)
    """An attempt has begun and its result is not recorded: it is in progress, or its sender
    process died."""
    last_error = models.CharField(_("last error"), max_length=500, blank=True)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    dropped_at = models.DateTimeField(
        _("dropped"), null=True, blank=True, help_text=_("It will not be sent; see last error.")
    )

    objects = NotificationQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        ordering = ("-id",)
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        indexes = (
            models.Index(fields=["next_attempt_at"], name="chroniker_notification_next"),
            models.Index(fields=["created_at"], name="chroniker_notification_made"),
            models.Index(
                fields=["recipient", "channel", "created_at"], name="chroniker_notification_to"
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_event_display()}: {self.job or ''} ({self.recipient or self.channel})"
