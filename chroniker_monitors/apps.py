"""The app configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.core.checks import CheckMessage


class ChronikerMonitorsConfig(AppConfig):
    """Monitors and metrics."""

    name = "chroniker_monitors"
    verbose_name = _("Chroniker monitors")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks and connect the receivers.

        Every process of the site does this, so nothing is imported that only some of them need.
        """
        from django.core.checks import Tags, register

        from chroniker.apps import connect_receivers_of_jobs
        from chroniker.extensions import add_pages, register_batch_runner

        from . import sentry
        from .enums import BATCH
        from .models import Monitor

        register(_check("check_settings"), "chroniker")
        # On deploy only: otherwise each command would say it on stderr.
        register(_check("check_django_prometheus"), "chroniker", deploy=True)
        register(_check("check_scrapes"), Tags.security)
        register_batch_runner(BATCH, "chroniker_monitors.checking.batches.MonitorBatch")
        add_pages("chroniker_monitors.checking.pages.monitor_pages")
        connect_receivers_of_jobs(Monitor)
        _connect_receivers()
        sentry.connect()


@cache
def _check(name: str) -> Callable[..., list[CheckMessage]]:
    """Return a check whose module is imported when it is run.

    Always the same one: where the list of apps is changed, as tests do, Django calls `ready` again.
    """

    def check(**kwargs: Any) -> list[CheckMessage]:
        messages: list[CheckMessage] = import_string(f"chroniker_monitors.checks.{name}")(**kwargs)
        return messages

    return check


def _connect_receivers() -> None:
    from django.db.models.signals import post_delete

    from chroniker import signals
    from chroniker.models import Host
    from chroniker.signals import connect_lazily

    from .models import Probe

    monitors = "chroniker_monitors.checking.receivers"
    connect_lazily(signals.pre_fork, f"{monitors}.preload")
    connect_lazily(post_delete, f"{monitors}.withdraw_incidents", sender=Probe)
    connect_lazily(post_delete, f"{monitors}.delete_measurements", sender=Host)
    connect_lazily(signals.run_finished, f"{monitors}.record_missing_measurement")
