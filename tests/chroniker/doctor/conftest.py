"""An installation of which the doctor finds nothing wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now

from chroniker.conf import conf
from chroniker.doctor.cron_line import crontab_line
from chroniker.doctor.examiner import examine
from chroniker.doctor.findings import Finding, Level
from chroniker.doctor.registry import Installation
from chroniker.models import Host
from tests.support.mail_server import MailServer, run_mail_server, set_mail_options

Examine = Callable[..., dict[str, Finding]]


@pytest.fixture(scope="module")
def mail_server() -> Iterator[MailServer]:
    with run_mail_server() as server:
        yield server


@pytest.fixture
def crontab(tmp_path: Path) -> Path:
    """A file like those in /etc/cron.d, with the line that the doctor wants."""
    fields, command = crontab_line().split(" /", 1)
    file = tmp_path / "crontab"
    file.write_text(f"SHELL=/bin/sh\n# Chroniker\n{fields} root /{command}\n")
    return file


@pytest.fixture
def installation(
    db: None, settings: Any, mail_server: MailServer, crontab: Path, own_runtime_dir: None
) -> Installation:
    mail_server.reset()
    set_mail_options(settings, host="127.0.0.1", port=mail_server.port)
    settings.DEFAULT_FROM_EMAIL = "site@example.com"
    settings.CHRONIKER_SITE_URL = "https://www.example.com"
    Host.objects.create(name=conf.HOSTNAME, last_tick_at=now())
    return Installation(crontabs=(crontab,), user_crontab=False)


@pytest.fixture
def examined(installation: Installation) -> Examine:
    """``examined(**changes)``: what the doctor reports, without what is as it should be."""

    def run(**changes: Any) -> dict[str, Finding]:
        found = examine(replace(installation, **changes))
        return {finding.id: finding for finding in found if finding.level is not Level.OK}

    return run
