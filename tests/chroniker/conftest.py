"""A real mail server for the tests of chroniker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.mail_server import MailServer, run_mail_server, set_mail_options


@pytest.fixture
def without_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Django's tasks nor the backport can be imported, as on a plain Django 5.2."""
    for name in ("django.tasks", "django_tasks"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(scope="session")
def _mail_server() -> Iterator[MailServer]:
    with run_mail_server() as mail_server:
        yield mail_server


@pytest.fixture
def mail_server(_mail_server: MailServer, settings: Any) -> MailServer:
    """A real SMTP server that the site sends through."""
    _mail_server.reset()
    set_mail_options(settings, host="127.0.0.1", port=_mail_server.port)
    settings.CHRONIKER_EMAIL_TIMEOUT = 10
    settings.DEFAULT_FROM_EMAIL = "Site <site@example.com>"
    return _mail_server
