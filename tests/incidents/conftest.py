from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.incidents import post


@pytest.fixture(scope="session")
def _office() -> Iterator[post.PostOffice]:
    with post.post_office() as office:
        yield office


@pytest.fixture
def office(_office: post.PostOffice, settings: Any) -> post.PostOffice:
    """A real SMTP server that the site sends through."""
    _office.reset()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", _office.port
    settings.CHRONIKER_EMAIL_TIMEOUT = 10
    settings.DEFAULT_FROM_EMAIL = "Site <site@example.com>"
    return _office


@pytest.fixture
def hook() -> Iterator[post.WebHook]:
    with post.web_hook() as hook:
        yield hook
