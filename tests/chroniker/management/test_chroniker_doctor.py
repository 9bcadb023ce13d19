"""The command ``chroniker_doctor``."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils.timezone import now

from chroniker.conf import conf
from chroniker.doctor.cron_line import crontab_line
from chroniker.models import Host
from chroniker_monitors.export import MANIFEST
from tests.support.mail_server import run_mail_server, set_mail_options, text_of
from tests.support.types import RunManage

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


def doctor(*words: str) -> tuple[int, str]:
    """The exit code and what it prints."""
    out = StringIO()
    try:
        call_command("chroniker_doctor", *words, stdout=out, no_color=True)
    except SystemExit as ended:
        return int(str(ended.code)), out.getvalue()
    return 0, out.getvalue()


def test_json_has_status_line_and_findings(own_runtime_dir: None) -> None:
    code, text = doctor("--json")
    report = json.loads(text)
    assert (code, report["status"]) == (2, "error")
    assert report["cron_line"] == crontab_line()
    never = next(found for found in report["findings"] if found["id"] == "ticks.never")
    assert set(never) == {"area", "id", "level", "message", "remedy"}
    assert crontab_line() in never["remedy"]


def test_exit_code_follows_the_worst_finding(own_runtime_dir: None, settings: Any) -> None:
    Host.objects.create(name=conf.HOSTNAME, last_tick_at=now())
    assert doctor()[0] == 1  # the mail backend of tests delivers nothing
    ignored = [
        word
        for name in ("mail.backend", "mail.sender", "mail.links")
        for word in ("--ignore", name)
    ]
    code, text = doctor(*ignored)
    assert (code, text.splitlines()[-1]) == (0, "Nothing is wrong.")


def test_each_finding_is_followed_by_its_remedy(own_runtime_dir: None) -> None:
    lines = doctor()[1].splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("ticks      error"))
    assert lines[at + 1].endswith("[ticks.never]")
    assert lines[-1].startswith("Found: ")


def test_sends_a_test_email(own_runtime_dir: None, settings: Any) -> None:
    settings.DEFAULT_FROM_EMAIL = "site@example.com"
    with run_mail_server() as server:
        set_mail_options(settings, host="127.0.0.1", port=server.port)
        assert (
            "A test email was accepted for ann@example.com"
            in doctor("--send-test", "ann@example.com")[1]
        )
        (mail,) = server.mails
        assert conf.HOSTNAME in text_of(mail)
        server.refuse.add("*")
        code, text = doctor("--send-test", "ann@example.com")
    assert (code, "[mail.rejected]" in text) == (2, True)
    with pytest.raises(CommandError):
        doctor("--send-test", "ann@example.com\nBcc: eve@example.com")


def test_prints_only_the_line() -> None:
    assert doctor("--crontab") == (0, crontab_line() + "\n")


def test_names_rules_that_are_out_of_date(tmp_path: Path, own_runtime_dir: None) -> None:
    folder = ["--monitoring", str(tmp_path)]
    assert "[rules.missing]" in doctor(*folder)[1]
    call_command("export_monitoring", str(tmp_path), stdout=StringIO())
    assert "are up to date" in doctor(*folder)[1]
    rules = tmp_path / "alerts" / "chroniker.rules.yml"
    rules.write_text(rules.read_text() + "# ours\n")
    assert "Edited by somebody: alerts/chroniker.rules.yml" in doctor(*folder)[1]
    rules.unlink()
    assert "[rules.outdated]" in doctor(*folder)[1]
    (tmp_path / MANIFEST).write_text("{")
    assert "[rules.unreadable]" in doctor(*folder)[1]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_database_that_is_away_hides_nothing_else(manage: RunManage) -> None:
    env = {
        "CHRONIKER_TEST_DB_NAME": "/no/such/directory/site.sqlite3",
        "DJANGO_SETTINGS_MODULE": "tests.chroniker.doctor.wrong_settings",
    }
    done = manage("chroniker_doctor", "--json", env=env)
    assert (done.returncode, done.stderr) == (2, "")
    found = {finding["id"] for finding in json.loads(done.stdout)["findings"]}
    assert {"database.unreachable", "settings.chroniker.E003"} <= found
    assert not [name for name in found if name.endswith("not-examined")]
