"""Chroniker's processes start Django as the site's own manage.py does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chroniker.models import OutputChunk, Run
from tests.factories import make_action_job, make_due_job
from tests.support.machine import REPO

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database, pytest.mark.slow]

CONFIGURATIONS_SETTINGS = """
from configurations import Configuration, values
import tests.settings

class Base(Configuration):
    CHRONIKER_START_METHOD = "spawn"

for name in dir(tests.settings):
    if name.isupper():
        setattr(Base, name, getattr(tests.settings, name))

class Dev(Base):
    # A plain import of this module would find none of these.
    SECRET_KEY = values.Value("configured", environ_prefix="SITE")
"""
CONFIGURATIONS_MANAGE = """
import os, sys
if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    os.environ.setdefault("DJANGO_CONFIGURATION", "Dev")
    from configurations.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""
ENVIRONMENT_MANAGE = """
import os, sys
def main():
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    os.environ["SHOP_SECRET"] = "from .env"
    from django.core.management import execute_from_command_line
    return execute_from_command_line(sys.argv)
if __name__ == "__main__":
    sys.exit(main())
"""
ENVIRONMENT_SETTINGS = """
import os
from tests.settings import *
SECRET_KEY = os.environ["SHOP_SECRET"]
CHRONIKER_START_METHOD = "spawn"
"""
SITES = {
    "configurations": (CONFIGURATIONS_MANAGE, CONFIGURATIONS_SETTINGS),
    "environment": (ENVIRONMENT_MANAGE, ENVIRONMENT_SETTINGS),
}
TEST_NOW = """
import json, os, sys
{start}
from chroniker_monitors.checking.sandbox import run_in_sandbox
from chroniker_monitors.thresholds import Thresholds
result = run_in_sandbox("test_gauge", {{"path": sys.argv[1]}}, Thresholds(">", 80, 90), timeout=30)
print(json.dumps([result.value, result.error]))
"""


@pytest.fixture(params=list(SITES))
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A site that a plain django.setup() cannot start."""
    manage, settings = SITES[request.param]
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "settings.py").write_text(settings)
    (tmp_path / "manage.py").write_text(manage)
    return tmp_path


@pytest.fixture
def env(site_env: dict[str, str]) -> dict[str, str]:
    """The environment of a cron line: no settings module."""
    return {name: value for name, value in site_env.items() if name != "DJANGO_SETTINGS_MODULE"}


def run(env: dict[str, str], *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env=env, cwd=cwd, capture_output=True, text=True, timeout=60
    )


def test_cron_line_runs_a_spawned_job(env: dict[str, str], project: Path) -> None:
    make_action_job("say hello")
    ended = run(env, "-m", "chroniker.cli", "-p", str(project), cwd=project)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert (Run.objects.get().status, Run.objects.get().error) == ("succeeded", "")
    assert "hello" in OutputChunk.objects.get().text


def test_manage_py_runs_a_spawned_job(env: dict[str, str], project: Path) -> None:
    job = make_due_job()
    ended = run(env, "manage.py", "cron", "--jobs", job.name, cwd=project)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert (Run.objects.get().status, Run.objects.get().error) == ("succeeded", "")


def test_test_now_of_a_web_worker_measures(env: dict[str, str], project: Path) -> None:
    """A web worker has no manage.py on its command line."""
    (project / "gauge").write_text("50 calm")
    start = "import django; django.setup()"
    if "DJANGO_CONFIGURATION" in (project / "manage.py").read_text():
        start = "import configurations; configurations.setup()"
        env = env | {"DJANGO_CONFIGURATION": "Dev"}
    worker = env | {
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "PYTHONPATH": f"{project}:{REPO}",
        "SHOP_SECRET": "of the worker",
    }
    ended = run(worker, "-c", TEST_NOW.format(start=start), str(project / "gauge"), cwd=REPO)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [50, ""]


def test_configurations_without_manage_py(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "only_settings.py").write_text(CONFIGURATIONS_SETTINGS)
    make_due_job()
    ended = run(
        env | {"DJANGO_CONFIGURATION": "Dev"}, "-m", "chroniker.cli", "-p", str(tmp_path), "-s",
        "only_settings", cwd=tmp_path,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert (Run.objects.get().status, Run.objects.get().error) == ("succeeded", "")


def test_settings_option_wins_over_manage_py(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text(
        ENVIRONMENT_MANAGE.replace("shop.settings", "no_such_settings")
    )
    make_due_job()
    ended = run(
        env, "-m", "chroniker.cli", "-p", str(tmp_path), "-s", "tests.settings", cwd=tmp_path
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert Run.objects.get().status == "succeeded"


@pytest.mark.parametrize(
    ("manage", "reason"),
    [
        ("raise SystemExit('closed today')", "closed today"),
        ("def broken(:", "SyntaxError"),
        ("import no_such_package", "no_such_package"),
    ],
)
def test_broken_manage_py_is_one_line(
    env: dict[str, str], tmp_path: Path, manage: str, reason: str
) -> None:
    (tmp_path / "manage.py").write_text(manage)
    ended = run(env, "-m", "chroniker.cli", "-p", str(tmp_path), cwd=tmp_path)
    assert ended.returncode == 1
    assert reason in ended.stderr and ended.stderr.count("\n") == 1
