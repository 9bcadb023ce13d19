"""What is said at the top of every page: that no host ticks, or that no job is watched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from chroniker.doctor.cron_line import crontab_line

from . import formats
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


def site_banners(status: SiteStatus) -> list[Banner]:
    """What keeps all jobs from starting, or from alerting."""
    return [*_host_banners(status), *(_window_banner(window) for window in status.windows)]


def _host_banners(status: SiteStatus) -> Iterator[Banner]:
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
            url=_admin_url("chroniker_host_changelist"),
            link=_("Hosts"),
        )
    elif not status.starting:
        yield Banner(
            "warning",
            _("Every host that ticks is paused, so no job starts."),
            _("Open a host and clear “paused”."),
            url=_admin_url("chroniker_host_changelist"),
            link=_("Hosts"),
        )


def _window_banner(window: OpenWindow) -> Banner:
    if window.pauses:
        text = _("A maintenance window mutes all alerts and starts no job until %(time)s.")
    else:
        text = _("A maintenance window mutes the alerts of all jobs until %(time)s.")
    return Banner(
        "warning",
        text % {"time": formats.time_text(window.ends_at)},
        _("Reason: %(reason)s.") % {"reason": window.reason} if window.reason else "",
        url=_admin_url("chroniker_maintenance_change", window.pk),
        link=_("Change or end it"),
    )


def _admin_url(name: str, *args: int) -> str:
    try:
        return reverse(f"admin:{name}", args=args)
    except NoReverseMatch:  # the site has not registered the page
        return ""


def _names(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (" …" if len(names) > limit else "")
