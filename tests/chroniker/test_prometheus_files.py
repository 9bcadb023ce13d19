"""With PROMETHEUS_MULTIPROC_DIR, what a scheduler starts leaves no files of metrics."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chroniker.models import OutputChunk, Run
from tests.factories import make_action_job, make_due_job, make_gauge_monitor, make_job
from tests.support.machine import REPO

pytest.importorskip("django_prometheus")
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database, pytest.mark.slow]

SETTINGS = """
from tests.support.site_settings import *
CHRONIKER_ALLOW_RAW_COMMANDS = True
CHRONIKER_START_METHOD = "{method}"
INSTALLED_APPS = [*INSTALLED_APPS, "shopmetrics"]
"""
COMMAND = """
import os, subprocess, sys
from django.core.management.base import BaseCommand
from prometheus_client import Counter
from shopmetrics import orders
class Command(BaseCommand):
    def handle(self, **options):
        orders.inc()
        Counter("made_in_job", "Made in the job.").inc()
        assert orders._value.get() == 1, orders._value.get()
        if os.fork() == 0:
            orders.inc()
            os._exit(0)
        os.wait()
        program = "from prometheus_client import Counter; Counter('other', 'Other.').inc()"
        subprocess.run([sys.executable, "-c", program], check=True)
        print("counted")
"""


@pytest.fixture
def site(
    site_env: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> dict[str, str]:
    """The environment of a site whose web workers share their metrics."""
    (tmp_path / "multi_settings.py").write_text(
        SETTINGS.format(method=getattr(request, "param", "fork"))
    )
    commands = tmp_path / "shopmetrics" / "management" / "commands"
    commands.mkdir(parents=True)
    for folder in (commands, commands.parent):
        (folder / "__init__.py").touch()
    (tmp_path / "shopmetrics" / "__init__.py").write_text(
        "from prometheus_client import Counter\norders = Counter('orders', 'Orders.')\n"
    )
    (commands / "count_orders.py").write_text(COMMAND)
    (tmp_path / "files").mkdir()
    return site_env | {
        "DJANGO_SETTINGS_MODULE": "multi_settings",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "files"),
    }


def run(site: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *words], env=site, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done


CALLS = {
    "manage.py": ["-m", "django", "cron"],
    "chroniker": ["-m", "chroniker.cli"],
    "call_command": [
        "-c", "import django; django.setup(); from django.core.management import call_command; "
        "from shopmetrics import orders; orders.inc(); call_command('cron')",
    ],
}  # fmt: skip


@pytest.mark.parametrize("site", ["fork", "spawn"], indirect=True)
@pytest.mark.parametrize("call", list(CALLS))
def test_runs_leave_no_files(site: dict[str, str], tmp_path: Path, call: str) -> None:
    # As the rest of a web worker, whose counters are still wanted.
    (tmp_path / "files" / "counter_1.db").touch()
    make_due_job(command="count_orders")
    make_due_job(
        command="", raw_command=sys.executable,
        args="-c \"from prometheus_client import Counter; Counter('raw', 'Raw.').inc()\"",
    )  # fmt: skip
    make_action_job("fail boom", subscribers=["ann"])  # its mail is sent by a fork of the tick
    run(site, *CALLS[call])
    runs = {run.job.command: run for run in Run.objects.select_related("job")}
    assert [runs[name].status for name in ("count_orders", "")] == ["succeeded"] * 2, [
        (chunk.run.job, chunk.text) for chunk in OutputChunk.objects.all()
    ]
    left = sorted(path.name for path in (tmp_path / "files").iterdir())
    if call == "call_command":  # that process is the site's own; the runs were not
        assert len({name.rpartition("_")[2] for name in left}) == 2, left
    else:
        assert left == ["counter_1.db"]


@pytest.mark.parametrize(
    "words", [["run_job", "1"], ["check_monitor", "volts"], ["write_metrics", "page.prom"],
              ["cron_clean", "days", "1"]], ids=" ".join,
)  # fmt: skip
def test_commands_leave_no_files(site: dict[str, str], tmp_path: Path, words: list[str]) -> None:
    make_gauge_monitor(tmp_path, name="volts")
    job = make_job()
    words = [str(job.pk) if word == "1" and words[0] == "run_job" else word for word in words]
    words = [str(tmp_path / word) if word == "page.prom" else word for word in words]
    run(site, "-m", "django", *words)
    assert list((tmp_path / "files").iterdir()) == []
