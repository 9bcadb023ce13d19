"""The Django app."""

from __future__ import annotations

import sys

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ChronikerConfig(AppConfig):
    """Chroniker: jobs on schedules."""

    name = "chroniker"
    verbose_name = _("Chroniker")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register system checks and signal receivers, without access to the database."""
        from django.db.models.signals import post_delete

        from . import checks, database_checks, executor_checks, tracing  # noqa: F401
        from .alerting import callbacks, changes
        from .models.placements import delete_states

        if "celery" in sys.modules:
            from .workers import celery  # noqa: F401  # registers the task

        callbacks.connect()
        changes.connect()
        tracing.connect()
        post_delete.connect(
            delete_states, sender="chroniker.Host", dispatch_uid="chroniker.delete_states"
        )
