"""Mail goes out through the site's own settings, of every Django."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import django
import pytest

from chroniker.alerting.mail_backend import DEFAULT_TIMEOUT, connect
from chroniker.checks import check_mailers
from chroniker.masking import site_secrets
from chroniker.models import Notification
from tests.factories import make_subscribed_job
from tests.support.machine import REPO
from tests.support.mail_server import MailServer, set_mail_options
from tests.support.timeline import Timeline

needs_mailers = pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")


@pytest.mark.parametrize(
    ("ours", "sites", "used"), [(3, 7, 3), (None, 7, 7), (None, None, DEFAULT_TIMEOUT)]
)
def test_timeout_is_ours_or_the_sites_or_the_default(
    settings: Any, ours: float | None, sites: float | None, used: float
) -> None:
    settings.CHRONIKER_EMAIL_TIMEOUT = ours
    set_mail_options(settings, host="127.0.0.1", timeout=sites)
    assert connect().timeout == used  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sites", "ours", "used"),
    [("site", "cron", "cron"), ("site", "", "site"), ("", "cron", ""), ("site", "site", "site")],
)
def test_login_is_ours_only_if_the_site_logs_in(
    settings: Any, sites: str, ours: str, used: str
) -> None:
    settings.CHRONIKER_EMAIL_HOST_USER = ours
    set_mail_options(settings, host="127.0.0.1", username=sites, password="secret")
    connection: Any = connect()
    assert (connection.username, connection.fail_silently) == (used, False)


@pytest.mark.parametrize("backend", ["locmem", "console", "dummy"])
def test_backend_without_a_server_is_used_as_it_is(settings: Any, backend: str) -> None:
    settings.CHRONIKER_EMAIL_HOST_USER = "cron"
    set_mail_options(settings, backend)
    connection = connect()
    assert backend in type(connection).__module__
    assert not hasattr(connection, "timeout")


def test_password_of_the_mail_server_is_masked(settings: Any) -> None:
    set_mail_options(settings, host="127.0.0.1", username="site", password="correct horse")
    assert "correct horse" in site_secrets()


@needs_mailers
@pytest.mark.django_db(transaction=True)
def test_mail_waits_until_the_site_has_a_default_mailer(
    settings: Any, mail_server: MailServer
) -> None:
    mailers, settings.MAILERS = settings.MAILERS, {"other": settings.MAILERS["default"]}
    timeline = Timeline()
    timeline.run(make_subscribed_job(), "F")
    assert "default" in Notification.objects.pending().get().last_error
    settings.MAILERS = mailers
    timeline.now = Notification.objects.get().next_attempt_at
    timeline.send()
    assert len(mail_server.mails) == 1


@needs_mailers
def test_missing_default_mailer_is_reported(settings: Any) -> None:
    settings.MAILERS = {"other": {}}
    (message,) = check_mailers()
    assert message.id == "chroniker.E040"
    settings.MAILERS = {"default": {}}
    assert check_mailers() == []


OLD_SETTINGS = """
import warnings
warnings.simplefilter("ignore")
from tests.settings import *
EMAIL_HOST, EMAIL_PORT = "127.0.0.1", {port}
"""


@pytest.mark.slow
def test_old_settings_still_work(tmp_path: Any, mail_server: MailServer) -> None:
    """In a process of its own: Django refuses to change between the two kinds of settings."""
    (tmp_path / "old_settings.py").write_text(OLD_SETTINGS.format(port=mail_server.port))
    code = (
        "import django; django.setup()\n"
        "from chroniker.alerting.mail_backend import connect\n"
        "backend = connect(); backend.open(); print(backend.timeout); backend.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True,
        env={"DJANGO_SETTINGS_MODULE": "old_settings", "PYTHONPATH": f"{tmp_path}:{REPO}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(DEFAULT_TIMEOUT)
