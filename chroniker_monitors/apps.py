"""The app configuration."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ChronikerMonitorsConfig(AppConfig):
    """Monitors and metrics."""

    name = "chroniker_monitors"
    verbose_name = _("Chroniker monitors")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks and connect the receivers."""
        from django.db.models.signals import post_delete

        from chroniker.alerting.changes import connect_model
        from chroniker.alerting.links import add_pages
        from chroniker.batches import register_batch_runner
        from chroniker.signals import pre_fork, run_finished

        from . import checks, sentry  # noqa: F401
        from .checking.batches import MonitorBatch
        from .checking.pages import monitor_pages
        from .checking.receivers import (
            delete_measurements,
            preload,
            record_missing_measurement,
            withdraw_incidents,
        )
        from .enums import BATCH
        from .models import Monitor, Probe

        register_batch_runner(BATCH, MonitorBatch())
        sentry.connect()
        connect_model(Monitor)
        add_pages(monitor_pages)
        pre_fork.connect(preload, dispatch_uid="chroniker_monitors.preload")
        post_delete.connect(
            withdraw_incidents, sender=Probe, dispatch_uid="chroniker_monitors.withdraw_incidents"
        )
        post_delete.connect(
            delete_measurements,
            sender="chroniker.Host",
            dispatch_uid="chroniker_monitors.delete_measurements",
        )
        run_finished.connect(
            record_missing_measurement, dispatch_uid="chroniker_monitors.record_missing_measurement"
        )
