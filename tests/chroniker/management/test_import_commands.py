"""The other imports, as commands."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from chroniker.models import Job

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

CRONTAB = """\
# Clear sessions
0 4 * * * cd {project} && python manage.py clearsessions
# Backup
0 5 * * * /usr/local/bin/backup
"""


def run(*words: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command(*words, stdout=out)
    except SystemExit as ended:
        return int(str(ended.code)), out.getvalue()
    return 0, out.getvalue()


def test_crontab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "crontab"
    file.write_text(CRONTAB.format(project=tmp_path))
    code, text = run("import_crontab", str(file), "--timezone", "Europe/Paris")
    job = Job.objects.get()
    assert (job.name, job.command, job.timezone) == (
        "Clear sessions", "clearsessions", "Europe/Paris",
    )  # fmt: skip
    assert code == 3
    assert "- Backup: " in text
    assert "CHRONIKER_ALLOW_RAW_COMMANDS" in text
    assert "Created 0 jobs" in run("import_crontab", str(file))[1]


@pytest.mark.parametrize("name", ["import_celery_beat", "import_django_q"])
def test_missing_tables_are_one_line(name: str) -> None:
    with pytest.raises(CommandError, match="has no table django_"):
        run(name)
    with pytest.raises(CommandError, match="TASK=NAME"):
        run(name, "--map", "nothing")
    with pytest.raises(CommandError, match="no database 'x'"):
        run(name, "--database", "x")
