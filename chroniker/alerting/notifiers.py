"""What a channel is: something that takes one notification at a time, or raises."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import apps
from django.db.models import Model
from django.urls import NoReverseMatch, reverse

from chroniker.conf import conf
from chroniker.exceptions import ChronikerError
from chroniker.models import Notification

logger = logging.getLogger(__name__)

_DANGEROUS = (
    *range(0x20), 0x7F, *range(0x80, 0xA0),  # controls, ESC among them
    0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A),  # other lines, other directions
)  # fmt: skip
_ESCAPES = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _DANGEROUS}
_ESCAPES_IN_TEXT = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\n\t"}


class ChannelDown(ChronikerError):
    """The channel itself cannot be reached: whatever else is for it has to wait as well."""


class Notifier:
    """A channel besides mail; name its dotted path in ``CHRONIKER_NOTIFIERS``.

    One instance is made for a batch, entered, and left after it. :meth:`send` is called once for
    each notification, and again later, after longer and longer waits, for as long as it raises.
    It has to bound its own time.
    """

    def __enter__(self) -> Notifier:
        return self

    def __exit__(self, *error: object) -> None:
        """Close what :meth:`send` has opened."""

    def send(self, notification: Notification) -> None:
        """Deliver it. Raises whatever went wrong, and ChannelDown where others need not try."""
        raise NotImplementedError


def plain(text: str) -> str:
    """Text of jobs, made harmless: controls, surrogates and changes of direction are spelled out.

    Lines stay lines.
    """
    text = text.replace("\r\n", "\n").encode("utf-8", "backslashreplace").decode()
    return text.translate(_ESCAPES_IN_TEXT)


def one_line(text: str, most: int = 200) -> str:
    """The same as one line, for a header or a name."""
    words = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    words = words.translate(_ESCAPES)
    return words if len(words) <= most else words[: most - 1] + "…"


def site_url() -> str:
    """Where the site is, without a slash at the end; empty where nobody knows."""
    url = conf.SITE_URL.rstrip("/")
    if not url and apps.is_installed("django.contrib.sites"):
        from django.contrib.sites.models import Site

        try:
            url = f"https://{Site.objects.get_current().domain}"
        except Exception:
            logger.warning("The current site is not known; set CHRONIKER_SITE_URL", exc_info=True)
    return url


def admin_link(row: Model | None) -> str:
    """The page of a row in the admin; empty where there is none."""
    site = site_url()
    if row is None or not site:
        return ""
    meta = row._meta
    try:
        path = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])
    except NoReverseMatch:
        return ""
    return site + path


def runbook_of(notification: Notification) -> str:
    """The job's, where it is a link that is safe to follow."""
    job: Any = notification.job
    url = job.runbook_url if job else ""
    safe = url.lower().startswith(("http://", "https://")) and url.isprintable() and " " not in url
    return url if safe else ""
