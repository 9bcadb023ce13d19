"""Links to a monitor's page, for the notifications of its incidents."""

from __future__ import annotations

from django.utils.translation import gettext as _

from chroniker.alerting.links import admin_link
from chroniker.models import Job
from chroniker_monitors.models import Monitor


def monitor_pages(job: Job) -> list[tuple[str, str]]:
    """The page of the monitor, which shows its chart; none for other jobs."""
    monitor = Monitor.objects.filter(pk=job.pk).first()
    url = admin_link(monitor)
    return [(_("Monitor and chart"), url)] if url else []
