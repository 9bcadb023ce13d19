"""What is wrong, from when to when, and who is told of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Case, F, Q, When
from django.utils.translation import gettext_lazy as _

from chroniker.enums import IncidentKind, NotificationEvent, Severity

from .job import Job, site_timezone
from .run import Run


class IncidentQuerySet(models.QuerySet["Incident"]):
    """Incidents."""

    def open(self) -> IncidentQuerySet:
        """Not over."""
        return self.filter(resolved_at__isnull=True)

    def of_placement(self, job: int, host: str, kind: str) -> IncidentQuerySet:
        """Those of one job, host slot and kind: at most one of them is open."""
        return self.filter(job=job, host=host, kind=kind)

    def needing_review(self, now: Any) -> IncidentQuerySet:
        """A reminder is due, a window that muted them may have ended, or they may be calm."""
        return self.filter(next_review_at__lte=now)


class NotificationQuerySet(models.QuerySet["Notification"]):
    """The outbox."""

    def pending(self) -> NotificationQuerySet:
        """Neither sent nor given up."""
        return self.filter(next_attempt_at__isnull=False)

    def due(self, now: Any) -> NotificationQuerySet:
        """To be sent now; those that somebody is sending are not."""
        return self.filter(next_attempt_at__lte=now)

    def claim(self, keys: list[int], token: str, now: datetime, until: datetime) -> int:
        """Take those of the keys that nobody else has taken, until a moment; how many."""
        return self.due(now).filter(pk__in=keys).update(next_attempt_at=until, claim_token=token)

    def claimed_by(self, token: str) -> NotificationQuerySet:
        """Those that bear the token."""
        return self.filter(claim_token=token, next_attempt_at__isnull=False)


class DigestQuerySet(models.QuerySet["Digest"]):
    """Digests."""

    def due(self, now: Any) -> DigestQuerySet:
        """To be written now, or to be given their first time."""
        return self.filter(Q(next_at__isnull=True) | Q(next_at__lte=now))


class CounterQuerySet(models.QuerySet["Counter"]):
    """Counters."""

    def add(self, name: str, number: int = 1) -> None:
        """Count; the counter is made when it is first needed."""
        if not self.filter(name=name).update(value=F("value") + number):
            self.bulk_create([self.model(name=name)], ignore_conflicts=True)
            self.filter(name=name).update(value=F("value") + number)

    def read(self, name: str) -> int:
        """Its value; 0 where nothing was counted yet."""
        value: int | None = self.filter(name=name).values_list("value", flat=True).first()
        return value or 0


class Incident(models.Model):
    """Open from the moment at which somebody should know to the one at which it is over."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="incidents", verbose_name=_("job"))
    host = models.CharField(
        _("host slot"),
        max_length=255,
        blank=True,
        help_text=_("Empty unless the job runs on every host by itself."),
    )
    kind = models.CharField(_("kind"), max_length=12, choices=IncidentKind)
    severity = models.CharField(_("severity"), max_length=8, choices=Severity)
    summary = models.CharField(_("summary"), max_length=500, blank=True)
    opened_at = models.DateTimeField(_("opened"))
    last_seen_at = models.DateTimeField(_("last seen"))
    occurrences = models.PositiveIntegerField(_("occurrences"), default=1)
    resolved_at = models.DateTimeField(_("resolved"), null=True, blank=True)
    resolution = models.CharField(_("resolution"), max_length=500, blank=True)
    first_run = models.ForeignKey(
        Run, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("first run")
    )
    last_run = models.ForeignKey(
        Run, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("last run")
    )
    muted = models.BooleanField(
        _("muted"), default=False, help_text=_("Nobody was told: a maintenance window covers it.")
    )
    flapping = models.BooleanField(
        _("flapping"), default=False, help_text=_("It opened and closed too often to tell each.")
    )
    notified_severity = models.CharField(max_length=8, choices=Severity, blank=True)
    """The worst that was told; empty where nothing was."""
    flapping_ended_at = models.DateTimeField(null=True, blank=True)
    """When flapping was over; flips before it count no more."""
    acknowledged_at = models.DateTimeField(_("acknowledged"), null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("acknowledged by"),
    )
    next_review_at = models.DateTimeField(null=True, blank=True)
    """When a tick has to look at it again: a reminder is due, a window ends, it may be calm."""

    open_placement = models.GeneratedField(
        expression=Case(When(resolved_at__isnull=True, then=F("host"))),
        output_field=models.CharField(max_length=255, null=True),
        db_persist=True,
    )
    """The host slot while it is open, else NULL. Unique with job and kind, it lets every database
    refuse a second open incident; MariaDB ignores a conditional constraint."""

    objects = IncidentQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        constraints = (
            models.UniqueConstraint(
                fields=["job", "kind", "open_placement"], name="chroniker_incident_one_open"
            ),
        )
        indexes = (
            models.Index(fields=["next_review_at"], name="chroniker_incident_attention"),
            models.Index(fields=["resolved_at", "severity"], name="chroniker_incident_open"),
            models.Index(fields=["opened_at"], name="chroniker_incident_opened"),
        )

    def __str__(self) -> str:
        where = f" on {self.host}" if self.host else ""
        return f"{self.job}{where}: {self.get_kind_display()}"

    @property
    def is_open(self) -> bool:
        """Whether it is not over."""
        return self.resolved_at is None


class Notification(models.Model):
    """A message to one recipient through one channel: the outbox.

    Written in the transaction that makes it true, sent after it.
    """

    job = models.ForeignKey(
        Job,
        models.CASCADE,
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
    """A hash of all that makes it this message and no other: nothing is told twice, and the
    Message-ID is the same each time it is tried."""
    facts = models.JSONField(default=dict, blank=True, editable=False)
    """What it says of the moment at which it was written; the rows go on changing."""
    created_at = models.DateTimeField(_("created"))
    next_attempt_at = models.DateTimeField(
        _("next attempt"),
        null=True,
        blank=True,
        help_text=_("Empty once it is sent or given up."),
    )
    claim_token = models.CharField(max_length=36, blank=True, editable=False)
    """Who is sending it; worth nothing after ``next_attempt_at``."""
    attempts = models.PositiveIntegerField(_("failed attempts"), default=0)
    last_error = models.CharField(_("last error"), max_length=500, blank=True)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    dropped_at = models.DateTimeField(
        _("given up"), null=True, blank=True, help_text=_("It will not be sent; see last error.")
    )

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        indexes = (
            models.Index(fields=["next_attempt_at"], name="chroniker_notification_next"),
            models.Index(fields=["created_at"], name="chroniker_notification_made"),
        )

    def __str__(self) -> str:
        return f"{self.get_event_display()}: {self.job or ''} ({self.recipient or self.channel})"


class Digest(models.Model):
    """Who wants the incidents of a day in one mail."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        related_name="chroniker_digest",
        verbose_name=_("user"),
    )
    hour = models.PositiveSmallIntegerField(
        _("hour"), default=8, validators=[MaxValueValidator(23)], help_text=_("Of each day.")
    )
    timezone = models.CharField(_("time zone"), max_length=63, default=site_timezone)
    only = models.BooleanField(
        _("nothing else"),
        default=False,
        help_text=_("No mail for each incident, as long as there is a digest."),
    )
    covered_until = models.DateTimeField(null=True, blank=True, editable=False)
    """Up to when incidents were told; NULL: it is new."""
    next_at = models.DateTimeField(_("next"), null=True, blank=True, editable=False)
    """NULL: a tick has to compute it."""

    objects = DigestQuerySet.as_manager()

    class Meta:
        verbose_name = _("digest")
        verbose_name_plural = _("digests")
        indexes = (models.Index(fields=["next_at"], name="chroniker_digest_next"),)

    def __str__(self) -> str:
        return f"digest for {self.user}"


class Counter(models.Model):
    """A counter that never falls, whatever is deleted."""

    name = models.CharField(max_length=50, unique=True)
    value = models.PositiveBigIntegerField(default=0)

    objects = CounterQuerySet.as_manager()

    class Meta:
        verbose_name = _("counter")
        verbose_name_plural = _("counters")

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"
