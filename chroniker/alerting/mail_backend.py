"""The site's mail backend, from ``MAILERS`` (Django 6.1) or from ``EMAIL_*``."""

from __future__ import annotations

import warnings
from typing import Any, cast

from django.conf import settings
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend

from chroniker.conf import conf

DEFAULT_TIMEOUT = 10
"""Seconds, where neither Chroniker nor the site sets one: without any, a tick could hang."""


def connect() -> BaseEmailBackend:
    """Return a new backend with our timeout and, where it differs from the site's, our user.

    Raises ImproperlyConfigured if ``MAILERS`` has no mailer that can be used.
    """
    # Any: what the attributes of a backend are called is fixed for SMTP only.
    backend: Any = _site_backend()
    timeout = conf.EMAIL_TIMEOUT
    if hasattr(backend, "timeout"):
        backend.timeout = timeout or backend.timeout or DEFAULT_TIMEOUT
    user = conf.EMAIL_HOST_USER
    if user and getattr(backend, "username", None):
        backend.username = user
    return cast("BaseEmailBackend", backend)


def _site_backend() -> BaseEmailBackend:
    if hasattr(settings, "MAILERS"):
        return mail.mailers.default
    with warnings.catch_warnings():
        # Deprecated from Django 6.1 on, which tells the site so by itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return mail.get_connection(fail_silently=False)
