"""Format values for people. ``format_html`` and the templates escape; nothing is marked safe."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from django.contrib.humanize.templatetags.humanize import intcomma, naturaltime
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.timezone import now as utc_now
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from chroniker.enums import RunStatus

EMPTY = "-"


def render(
    template: str, context: Mapping[str, object], request: HttpRequest | None = None
) -> SafeString:
    """Render a template of ``chroniker/admin/``, with escaping.

    With ``request``, its links lead to the admin site of the request.
    """
    return render_to_string(f"chroniker/admin/{template}", dict(context), request)


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
    return format_html(
        '<progress max="100" value="{0}" aria-label="{1}">{0} %</progress><br><small>{2}</small>',
        value,
        _("progress"),
        _("%(done)s of %(total)s (%(percent)d %%)")
        % {"done": intcomma(done or 0), "total": intcomma(total), "percent": value},
    )


def time_html(when: datetime | None, zone: str = "") -> str:
    """The time relative to now, and date and time in ``zone`` or the site's zone."""
    if when is None:
        return EMPTY
    local = in_zone(when, zone)
    return format_html(
        '<time datetime="{}">{}<br><small><span>{}</span> <span>{}</span></small></time>',
        when.isoformat(timespec="seconds"),
        _relative_text(when),
        local.strftime("%Y-%m-%d"),
        local.strftime("%H:%M:%S %Z"),
    )


def relative_time(when: datetime) -> SafeString:
    """The time relative to now. The live script keeps it current."""
    return format_html(
        '<time datetime="{}">{}</time>', when.isoformat(timespec="seconds"), _relative_text(when)
    )


def _relative_text(when: datetime) -> str:
    """``naturaltime``, which is slow, once for each text that it may return."""
    seconds = int((when - utc_now()).total_seconds())
    step = 1 if abs(seconds) < 60 else 60 if abs(seconds) < 3600 else 3600
    return _natural(int(seconds / step) * step, get_language())


@lru_cache(maxsize=4096)
def _natural(seconds: int, language: str | None) -> str:
    # Half a second more, because the clock goes on until naturaltime reads it.
    return str(naturaltime(utc_now() + timedelta(seconds=seconds + (0.5 if seconds > 0 else 0))))


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
    return _badge(name, str(label))


@lru_cache(maxsize=512)
def _badge(name: str, label: str) -> SafeString:
    return format_html('<span class="chroniker-badge chroniker-{}">{}</span>', name, label)


def run_status(value: str) -> str:
    """A run's status as a badge."""
    return _run_status(value, get_language())


@lru_cache(maxsize=256)
def _run_status(value: str, language: str | None) -> str:
    if value not in RunStatus.values:
        return EMPTY
    return badge(value, RunStatus(value).label)


_SEVERITY_BADGES = {"critical": "failed", "warning": "missed", "info": "idle"}
"""Severity: the run status whose badge has the same colour."""


def severity_badge(value: str, label: object) -> SafeString:
    """A severity as a badge."""
    return badge(_SEVERITY_BADGES.get(value, "idle"), label)


def dropped_output(size: int, stream: str) -> str:
    """The line shown in place of output that was not stored. ``size`` in bytes."""
    return _("… %(number)s bytes of %(stream)s not stored …") % {
        "number": intcomma(size),
        "stream": stream,
    }
