"""The Django app."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from .models import Job


class ChronikerConfig(AppConfig):
    """Chroniker: jobs on schedules."""

    name = "chroniker"
    verbose_name = _("Chroniker")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register system checks and signal receivers, without access to the database.

        Every process of the site does this, so nothing is imported that only some of them need.
        """
        from django.core.checks import Tags, register

        from . import tracing
        from .models import Job

        register(check_site, Tags.compatibility)
        connect_receivers()
        connect_receivers_of_jobs(Job)
        if "celery" in sys.modules:
            from .workers import celery  # noqa: F401  # registers the task
        tracing.connect()


def check_site(**kwargs: Any) -> list[CheckMessage]:
    """Check the settings and the database."""
    from . import checks, database_checks, executor_checks

    found = (checks, database_checks, executor_checks)
    return [
        message
        for check in (check for module in found for check in module.SITE_CHECKS)
        for message in check(**kwargs)
    ]


def connect_receivers() -> None:
    """Connect the receivers of the signals of runs, hosts and subscribers."""
    from django.apps import apps
    from django.contrib.auth import get_user_model
    from django.db.models.signals import m2m_changed, post_delete, pre_delete

    from .models import Host, Incident, Job
    from .signals import connect_lazily, run_finished

    changes = "chroniker.alerting.changes"
    connect_lazily(run_finished, "chroniker.alerting.callbacks.call_back")
    connect_lazily(post_delete, "chroniker.models.placements.delete_states", sender=Host)
    connect_lazily(pre_delete, f"{changes}.release_folded", sender=Incident)
    for field in ("subscribers", "subscriber_groups"):
        through = getattr(Job, field).through
        connect_lazily(m2m_changed, f"{changes}.notify_subscribers", sender=through)
    groups = getattr(get_user_model(), "groups", None)
    if groups is not None and apps.is_installed("django.contrib.auth"):
        connect_lazily(m2m_changed, f"{changes}.notify_members", sender=groups.through)


def connect_receivers_of_jobs(model: type[Job]) -> None:
    """Connect the receivers of jobs to a model: Django sends signals of a proxy for itself only."""
    from django.db.models.signals import post_save, pre_delete

    from .signals import connect_lazily

    connect_lazily(pre_delete, "chroniker.alerting.changes.close_incidents", sender=model)
    connect_lazily(post_save, "chroniker.alerting.changes.review_failures", sender=model)
