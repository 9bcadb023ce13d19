"""Two versions of Chroniker tick beside each other while a site is deployed.

The newer one is a copy of the package with another migration, in a tree of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection

import chroniker
from tests.support.machine import REPO
from tests.support.processes import wait_until
from tests.support.types import RunManage, StartManage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

MIGRATION = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("chroniker", "0001_initial")]
    operations = [
        migrations.AddField("run", "ticket", models.CharField(max_length=20, default="none")),
    ]
"""
LINE = (
    "The database was migrated by a newer version of Chroniker than "
    f"{chroniker.__version__}, which runs here. Nothing is started. "
    "Update this host, and restart its cronserver."
)


@pytest.fixture
def database() -> Iterator[str]:
    """A database without tables."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        name = name.replace(".sqlite3", "-versions.sqlite3")
        yield name
        for suffix in ("", "-wal", "-shm"):
            Path(f"{name}{suffix}").unlink(missing_ok=True)
        return
    name = f"{name}_versions"
    quoted = connection.ops.quote_name(name)
    force = " WITH (FORCE)" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {quoted}")
        cursor.execute(f"CREATE DATABASE {quoted}")
    yield name
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {quoted}{force}")


@pytest.fixture
def older(database: str, tmp_path: Path) -> dict[str, str]:
    """The environment of the version that is being replaced."""
    (tmp_path / "fleet_settings.py").write_text(
        "from tests.settings import *\n"
        f"CHRONIKER_RUNTIME_DIR = {str(tmp_path / 'runtime')!r}\n"
        "CHRONIKER_HOSTNAME = os.environ['HOST']\n"
    )
    return {
        "CHRONIKER_TEST_DB_NAME": database,
        "DJANGO_SETTINGS_MODULE": "fleet_settings",
        "PYTHONPATH": f"{tmp_path}:{REPO}",
        "HOST": "old",
    }


@pytest.fixture
def newer(older: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a version with another migration."""
    tree = tmp_path / "newer"
    package = tree / "chroniker"
    shutil.copytree(
        REPO / "chroniker", package, ignore=shutil.ignore_patterns("__pycache__", "locale")
    )
    (package / "migrations" / "0002_run_ticket.py").write_text(MIGRATION)
    _replace(package / "__init__.py", r'__version__ = ".*"', '__version__ = "99.0"')
    _replace(
        package / "models" / "run.py",
        r"(?=    running_placement = models)",
        '    ticket = models.CharField(max_length=20, default="none")\n\n',
    )
    return older | {"PYTHONPATH": f"{tree}:{older['PYTHONPATH']}", "HOST": "new"}


def _replace(path: Path, pattern: str, text: str) -> None:
    changed, number = re.subn(pattern, text, path.read_text())
    assert number == 1
    path.write_text(changed)


@pytest.fixture
def ask(manage: RunManage) -> Callable[[dict[str, str], str], str]:
    """``ask(version, code)``: what a shell of that version prints."""

    def run(version: dict[str, str], code: str) -> str:
        done = manage("shell", "-v0", "-c", f"from chroniker.models import *\n{code}", env=version)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


DUE = "Job.objects.create(name={name!r}, command='act', args={args!r}, schedule='@every 1h', created_at='2026-01-01T00:00Z')"  # noqa: E501
STATUS = "print(*Run.objects.exclude(status='missed').filter(job__name={!r}).values_list('status', 'ran_on').order_by('id'))"  # noqa: E501
ALL_DUE = "from django.utils.timezone import now; JobState.objects.update(next_run_at=now(), next_slot_at=now())"  # noqa: E501


def test_rolling_deployment(
    older: dict[str, str],
    newer: dict[str, str],
    manage: RunManage,
    start_manage: StartManage,
    ask: Callable[[dict[str, str], str], str],
    site_env: dict[str, str],
    tmp_path: Path,
) -> None:
    assert manage("migrate", "-v0", env=older).returncode == 0
    started, go_on = tmp_path / "started", tmp_path / "go on"
    ask(older, DUE.format(name="long", args=f"wait_for {started} '{go_on}'"))
    server = start_manage("cronserver", "0.2", env=older)
    wait_until(started.exists, timeout=30)

    migrated = manage("migrate", "-v0", env=newer)
    assert migrated.returncode == 0, migrated.stderr
    ask(newer, DUE.format(name="short", args="say hello"))

    # The older version starts nothing, whoever starts it.
    for refused in (
        manage("cron", env=older),
        manage("run_job", "short", env=older),
        manage("cronserver", "0.2", env=older | {"HOST": "another"}),
        _console_script(site_env | older, tmp_path),
    ):
        assert refused.returncode == 4, (refused.args, refused.stderr)
        assert refused.stderr.strip().removeprefix("chroniker: ").removeprefix(
            "CommandError: "
        ) == (LINE)
        assert "Traceback" not in refused.stderr
    assert ask(newer, STATUS.format("short")) == ""
    assert ask(newer, "print(Host.objects.filter(name='another').exists())") == "False"

    # What it has started before goes on, is recorded, and then its loop ends.
    assert server.poll() is None
    assert ask(newer, STATUS.format("long")) == "('running', 'old')"
    go_on.touch()
    assert server.wait(30) == 4
    assert (tmp_path / "cronserver.log").read_text().splitlines()[-1].endswith(LINE)
    assert ask(newer, STATUS.format("long")) == "('succeeded', 'old')"

    # The newer one runs everything, also while the older one keeps trying.
    for _ in range(2):
        ask(newer, ALL_DUE)
        beside = start_manage("cron", env=older)
        done = manage("cron", env=newer)
        assert (done.returncode, done.stderr) == (0, "")
        assert beside.wait(20) == 4
    assert ask(newer, STATUS.format("short")) == "('succeeded', 'new') ('succeeded', 'new')"
    assert ask(newer, "print(set(JobState.objects.values_list('blocked_reason', flat=True)))") == (
        "{''}"
    )
    versions = "print(dict(Host.objects.values_list('name', 'version')))"
    assert ask(newer, versions) == str({"new": "99.0", "old": chroniker.__version__})

    # After going back to the older schema, the older version works again.
    back = manage("migrate", "chroniker", "0001", "-v0", env=newer)
    assert back.returncode == 0, back.stderr
    ask(older, ALL_DUE)
    assert manage("cron", env=older).returncode == 0
    assert ask(older, STATUS.format("short")).endswith("('succeeded', 'old')")


def _console_script(env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chroniker.cli", "-p", str(folder), "-s", "fleet_settings"],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
