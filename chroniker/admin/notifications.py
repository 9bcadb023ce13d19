"""The pages of the outbox: notifications and the state of their delivery."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from chroniker.models import Notification

from . import formats
from .actions import retry_notifications, user_id
from .base import ReadOnlyAdmin
from .filters import DeliveryFilter
from .plain_relations import unlinked


class NotificationAdmin(ReadOnlyAdmin[Notification]):
    """Notifications: waiting, sent or dropped."""

    list_display = (
        "number", "event", "job_name", "recipient", "channel", "state", "created", "attempts",
    )  # fmt: skip
    list_display_links = ("number", "event")
    list_filter = (DeliveryFilter, "event", "created_at")
    search_fields = ("job__name", "recipient", "last_error")
    show_full_result_count = False
    empty_text = gettext_lazy(
        "No notifications yet. They are written for the subscribers of a job when an incident "
        "opens."
    )
    list_select_related = ("job",)
    actions = ("retry_now",)
    fields: ClassVar[tuple[str, ...]] = (
        "event", "job_name", "incident", "recipient", "channel", "state", "created", "attempts",
        "next_attempt_at", "last_error", "sent_at", "dropped_at",
    )  # fmt: skip

    def get_fields(self, request: HttpRequest, obj: object = None) -> Any:
        """Link to the incident if the user may see it."""
        return unlinked(self, request, self.fields, "incident")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Whether the user may send notifications again that are waiting or dropped."""
        return self.may_act(request)

    @admin.action(permissions=["retry"], description=gettext_lazy("Retry now"))
    def retry_now(self, request: HttpRequest, queryset: QuerySet[Notification]) -> None:
        """Send the selected notifications with the next tick, except those already sent."""
        number = retry_notifications(queryset, now=utc_now(), user_id=user_id(request))
        text = ngettext(
            "%d notification will be sent with the next tick.",
            "%d notifications will be sent with the next tick.",
            number,
        )
        self.message_user(request, text % number, messages.SUCCESS if number else messages.INFO)

    @admin.display(description=gettext_lazy("number"), ordering="pk")
    def number(self, notification: Notification) -> int:
        """The primary key."""
        return notification.pk

    @admin.display(description=gettext_lazy("job"), ordering="job__name")
    def job_name(self, notification: Notification) -> str:
        """The job's name."""
        return notification.job.name if notification.job else formats.EMPTY

    @admin.display(description=gettext_lazy("state"))
    def state(self, notification: Notification) -> str:
        """Sent, waiting or dropped."""
        if notification.sent_at is not None:
            return formats.badge("succeeded", _("sent"))
        if notification.dropped_at is not None:
            return formats.badge("missed", _("dropped"))
        return formats.badge("failed" if notification.attempts else "due", _("waiting"))

    @admin.display(description=gettext_lazy("created"), ordering="created_at")
    def created(self, notification: Notification) -> str:
        """When it was created."""
        return formats.time_html(notification.created_at)
