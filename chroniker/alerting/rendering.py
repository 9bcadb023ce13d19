"""The templates of messages, which a site can override."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from django.template.backends.django import DjangoTemplates
from django.template.loader import select_template

from chroniker.enums import NotificationEvent
from chroniker.logs import log_context
from chroniker.models import Notification

from .incident_context import MailContext

logger = logging.getLogger(__name__)

SUBJECT, TEXT, HTML = PARTS = ("_subject.txt", ".txt", ".html")
"""The parts of a message: the ends of the names of their templates."""

_OWN_TEMPLATES = (
    NotificationEvent.DIGEST,
    NotificationEvent.SUCCEEDED,
    NotificationEvent.BUNDLE,
    NotificationEvent.TEST,
)
"""Events whose templates are named after them; all others are about an incident."""


def render(notification: Notification, context: MailContext, part: str) -> str:
    """Render a part of a notification, with this package's template if the site's is broken."""
    event = notification.event
    kind = event if event in _OWN_TEMPLATES else "incident"
    names = [f"chroniker/mail/{name}{part}" for name in (event, kind)]
    try:
        text: str = select_template(names).render(context)
    except Exception as error:
        if names[0] not in _broken:  # logged once in each process, not once for each email
            _broken.add(names[0])
            logger.error(
                "A template for %s cannot be rendered: %r",
                " or ".join(names),
                error,
                extra=log_context(),
            )
        text = _package_templates().get_template(names[-1]).render(context)
    return text


_broken: set[str] = set()


@cache
def _package_templates() -> DjangoTemplates:
    """The templates of this package, whatever the site's TEMPLATES setting is."""
    return DjangoTemplates(
        {
            "NAME": "chroniker",
            "DIRS": [Path(__file__).parents[1] / "templates"],
            "APP_DIRS": False,
            "OPTIONS": {},
        }
    )
