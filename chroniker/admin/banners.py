"""What is said at the top of every page: that no host ticks, or that no job is watched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.utils.translation import gettext as _

from chroniker.doctor.cron_line import crontab_line
from chroniker.models import Host, Maintenance

from . import formats
from .site_links import may_view, page_url, site_of
from .site_status import OpenWindow, SiteStatus


@dataclass(frozen=True, slots=True)
class Banner:
    """A sentence, what to do about it, and where."""

    level: str
    """``error`` or ``warning``; the CSS name."""
    text: str
    action: str = ""
    code: str = ""
    """A line to copy."""
    url: str = ""
    link: str = ""


def site_banners(status: SiteStatus, request: HttpRequest) -> list[Banner]:
    """What keeps all jobs from starting, or from alerting, with links that the user may follow."""
    site = site_of(request)
    hosts_url = page_url(site, "chroniker_host_changelist") if may_view(site, request, Host) else ""
    return [
        *_host_banners(status, hosts_url),
        *(_window_banner(window, request, site) for window in status.windows),
    ]


def _host_banners(status: SiteStatus, hosts_url: str) -> Iterator[Banner]:
    last = status.last_tick_at
    if last is None:
        yield Banner(
            "error",
            _("No host has ticked yet, so no job starts."),
            _("Add this line to the crontab of the user that the site runs as, on every host that "
              "should run jobs:"),
            code=crontab_line(),
        )  # fmt: skip
    elif not status.ticking:
        yield Banner(
            "error",
            _("No host has ticked since %(time)s, so no job starts.")
            % {"time": formats.time_text(last)},
            _("Check that cron runs on %(hosts)s, and that this line is in the crontab:")
            % {"hosts": _names([host.name for host in status.hosts])},
            code=crontab_line(),
            url=hosts_url,
            link=_("Hosts"),
        )
    elif not status.starting:
        yield Banner(
            "warning",
            _("Every host that ticks is paused, so no job starts."),
            _("Open a host and clear “paused”."),
            url=hosts_url,
            link=_("Hosts"),
        )


def _window_banner(window: OpenWindow, request: HttpRequest, site: AdminSite) -> Banner:
    visible = may_view(site, request, Maintenance)
    may_change = visible and site.get_model_admin(Maintenance).has_change_permission(request)
    if window.pauses:
        text = _("A maintenance window mutes all alerts and starts no job until %(time)s.")
    else:
        text = _("A maintenance window mutes the alerts of all jobs until %(time)s.")
    return Banner(
        "warning",
        text % {"time": formats.time_text(window.ends_at)},
        _("Reason: %(reason)s.") % {"reason": window.reason} if window.reason else "",
        url=page_url(site, "chroniker_maintenance_change", window.pk) if visible else "",
        link=_("Change or end it") if may_change else _("Show it"),
    )


def _names(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (" …" if len(names) > limit else "")
