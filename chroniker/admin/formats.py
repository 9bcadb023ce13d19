"""Format values for people. ``format_html`` and the templates escape; nothing is marked safe."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from django.contrib.humanize.templatetags.humanize import intcomma, naturaltime
from django.template.loader import render_to_string
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from chroniker.enums import RunStatus

EMPTY = "-"


def render(template: str, context: Mapping[str, object]) -> SafeString:
    """Render a template of ``chroniker/admin/``, with escaping."""
    return render_to_string(f"chroniker/admin/{template}", dict(context))


def duration(seconds: float | None) -> str:
    """``0.42 s``, ``12.3 s``, ``3 min 05 s``, ``2 h 07 min``, ``3 d 04 h``."""
    if seconds is None:
        return EMPTY
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"


def percent(done: int | None, total: int | None) -> int | None:
    """Between 0 and 100, even if a job reported more than its total; None without a total."""
    if not total or total < 0:
        return None
    return max(0, min(100, (done or 0) * 100 // total))


def progress(done: int | None, total: int | None) -> str:
    """A bar and ``13 of 77 (16 %)``; ``13`` if the total is not known."""
    if done is None and total is None:
        return EMPTY
    value = percent(done, total)
    if value is None:
        return str(intcomma(done or 0))
    return render(
        "progress.html", {"done": intcomma(done or 0), "total": intcomma(total), "percent": value}
    )


def time_html(when: datetime | None, zone: str = "") -> str:
    """The time relative to now, and date and time in ``zone`` or the site's zone."""
    if when is None:
        return EMPTY
    local = in_zone(when, zone)
    return format_html(
        '<time datetime="{}">{}<br><small><span>{}</span> <span>{}</span></small></time>',
        when.isoformat(timespec="seconds"),
        naturaltime(when),
        date_format(local, "Y-m-d"),
        date_format(local, "H:i:s T"),
    )


def time_text(when: datetime, zone: str = "") -> str:
    """Day, date, time and zone as plain text, in ``zone`` or the site's zone."""
    return date_format(in_zone(when, zone), "D Y-m-d H:i:s T")


def in_zone(when: datetime, zone: str) -> datetime:
    """``when`` in ``zone``, or in the site's zone if ``zone`` is empty or unknown."""
    info: ZoneInfo | None = None
    if zone:
        try:
            info = ZoneInfo(zone)
        except (LookupError, ValueError, OSError):  # a row that was written without validation
            info = None
    return localtime(when, info)


def badge(name: str, label: object) -> SafeString:
    """A badge. ``name`` selects its colour; the label alone carries all the information."""
    return format_html('<span class="chroniker-badge chroniker-{}">{}</span>', name, label)


def run_status(value: str) -> str:
    """A run's status as a badge."""
    if value not in RunStatus.values:
        return EMPTY
    return badge(value, RunStatus(value).label)


def dropped_output(size: int, stream: str) -> str:
    """The line shown in place of output that was not stored. ``size`` in bytes."""
    return _("… %(number)s bytes of %(stream)s not stored …") % {
        "number": intcomma(size),
        "stream": stream,
    }
