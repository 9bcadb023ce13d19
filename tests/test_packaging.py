"""The built package, installed in an empty environment with a fresh site."""

from __future__ import annotations

import email
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.docs.blocks import README, iter_blocks
from tests.support.machine import REPO, find_program
from tests.support.mail_server import run_mail_server

# One worker for all tests: build and environment are created once.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("packaging")]

Run = Callable[..., subprocess.CompletedProcess[str]]


def run(
    *argv: str | Path, cwd: Path, timeout: float = 240, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a program with a minimal environment; it must succeed."""
    dropped = ("PYTHONPATH", "DJANGO_SETTINGS_MODULE", "VIRTUAL_ENV")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith(("PYTEST_", "CHRONIKER_", "COVERAGE_"))
    }
    done = subprocess.run(
        [str(part) for part in argv],
        cwd=cwd,
        env=inherited | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution and the wheel."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, REPO, cwd=out)
    return out


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` directory of an environment with the wheel and its dependencies."""
    directory = tmp_path_factory.mktemp("venv") / "site-venv"
    uv = Path(sys.prefix, "bin", "uv")
    if uv.exists() or find_program("uv"):
        tool = uv if uv.exists() else "uv"
        run(tool, "venv", "--python", sys.executable, directory, cwd=directory.parent)
        install = (tool, "pip", "install", "--python", directory / "bin" / "python")
    else:
        run(sys.executable, "-m", "venv", directory, cwd=directory.parent)
        install = (directory / "bin" / "python", "-m", "pip", "install")
    run(*install, "--quiet", wheel, cwd=directory.parent)
    return directory / "bin"


@pytest.fixture(scope="session")
def site(venv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh site with the lines that the README prints."""
    directory = tmp_path_factory.mktemp("site")
    run(venv / "django-admin", "startproject", "site_project", directory, cwd=directory)
    for block in iter_blocks(README):
        if block.file in ("settings.py", "urls.py"):
            mode = "a" if block.file == "settings.py" else "w"
            with (directory / "site_project" / block.file).open(mode) as file:
                file.write(f"\n{block.text}")
    run(venv / "python", "manage.py", "migrate", "--verbosity=0", cwd=directory)
    return directory


def test_wheel_holds_both_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "chroniker",
        "chroniker_monitors",
    }
    assert {"chroniker/py.typed", "chroniker_monitors/py.typed"} <= set(names)
    assert any(name.startswith("chroniker/migrations/0001") for name in names)
    assert not [name for name in names if name.endswith((".pyc", ".log"))]


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "chroniker", "chroniker_monitors"],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("no git checkout")
    with zipfile.ZipFile(wheel) as archive:
        missing = {name for name in listed.stdout.split() if (REPO / name).exists()} - set(
            archive.namelist()
        )
    assert not missing


def test_wheel_holds_rules_and_dashboards(wheel: Path) -> None:
    """The files that export_monitoring writes, without tests and builders."""
    shipped = [
        path.relative_to(REPO)
        for pattern in (
            "dashboards/*.json",
            "dashboards/provisioning/*.yml",
            "alerts/*.yml",
            "alerts/grafana/*.yml",
        )
        for path in REPO.glob(pattern)
    ]
    with zipfile.ZipFile(wheel) as archive:
        for path in shipped:
            assert archive.read(f"chroniker_monitors/{path}") == (REPO / path).read_bytes()
        names = archive.namelist()
    folders = ("chroniker_monitors/alerts/", "chroniker_monitors/dashboards/")
    assert len([name for name in names if name.startswith(folders)]) == len(shipped) > 5


def test_metadata_is_complete(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        (licence,) = (name for name in archive.namelist() if name.endswith("/licenses/LICENSE"))
        assert b"MIT" in archive.read(licence)
    assert metadata["Name"] == "chroniker"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip()
    assert metadata["Project-URL"] is None
    assert metadata["Home-page"] is None


def test_sdist_can_be_built_and_tested_from(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "tests/conftest.py"} <= names


def test_fresh_site_passes_every_check(venv: Path, site: Path) -> None:
    done = run(venv / "python", "-W", "error", "manage.py", "check", cwd=site)
    assert done.stdout == "System check identified no issues (0 silenced).\n"
    assert done.stderr == ""


def test_fresh_site_needs_no_further_migration(venv: Path, site: Path) -> None:
    run(venv / "python", "manage.py", "makemigrations", "--check", "--dry-run", cwd=site)


def test_tick_of_a_fresh_site_is_silent(venv: Path, site: Path) -> None:
    done = run(venv / "python", "manage.py", "cron", cwd=site)
    assert (done.stdout, done.stderr) == ("", "")


def test_console_script_has_help(venv: Path, tmp_path: Path) -> None:
    done = run(venv / "chroniker", "--help", cwd=tmp_path)
    assert done.stdout.startswith("usage: chroniker")
    assert done.stderr == ""


def test_console_script_ticks_a_fresh_site(venv: Path, site: Path, tmp_path: Path) -> None:
    done = run(venv / "chroniker", "-p", site, "-s", "site_project.settings", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "")


def test_monitoring_of_a_fresh_site_is_exported(venv: Path, site: Path, tmp_path: Path) -> None:
    options = ("export_monitoring", tmp_path / "monitoring", "--job", "shop")
    done = run(venv / "python", "manage.py", *options, cwd=site)
    assert "dashboards/chroniker-fleet.json\n" in done.stdout
    done = run(venv / "python", "manage.py", *options, "--check", cwd=site)
    assert "up to date" in done.stdout


def test_metrics_of_a_fresh_site(venv: Path, site: Path) -> None:
    code = (
        "from django.test import Client\n"
        "reply = Client(SERVER_NAME='localhost').get('/metrics')\n"
        "print(reply.status_code, b'chroniker_' in b''.join(reply))\n"
    )
    done = run(venv / "python", "manage.py", "shell", "--no-imports", "-c", code, cwd=site)
    assert done.stdout == "200 True\n"


STRANGERS_JOBS = {
    "version": 1,
    "jobs": {
        "clear sessions": {
            "command": "clearsessions", "schedule": "@every 1s", "subscriber_groups": ["ops"],
        },
        "broken": {
            "command": "check", "args": "--no-such-option", "schedule": "@every 1s",
            "subscriber_groups": ["ops"],
        },
    },
    "monitors": {
        "Memory": {
            "kind": "memory", "warning": 101, "schedule": "@every 1s",
            "subscriber_groups": ["ops"],
        },
    },
}  # fmt: skip


@pytest.mark.prometheus
def test_strangers_path(venv: Path, site: Path, tmp_path: Path) -> None:
    """From the wheel and the README to a job, a monitor, a scrape and an alert, in two minutes."""
    manage = partial(run, venv / "python", "manage.py", cwd=site)
    with run_mail_server() as mail_server, (site / "site_project" / "settings.py").open("a") as own:
        own.write(
            'DEFAULT_FROM_EMAIL = "site@example.com"\n'
            'CHRONIKER_SITE_URL = "https://www.example.com"\n'
            "CHRONIKER_MAX_PARALLEL = 4\n"
            f'CHRONIKER_RUNTIME_DIR = "{tmp_path / "runtime"}"\n'
        )
        own.write(mail_settings(mail_server.port, venv, site))
        own.flush()
        manage(
            "shell", "--no-imports", "-c",
            "from django.contrib.auth.models import Group, User;"
            "user = User.objects.create_user('ann', 'ann@example.com');"
            "user.groups.add(Group.objects.create(name='ops'))",
        )  # fmt: skip
        jobs = tmp_path / "jobs.json"
        jobs.write_text(json.dumps(STRANGERS_JOBS))
        assert manage("chroniker_jobs", "apply", jobs).stdout.endswith("3 created.\n")
        time.sleep(1.1)  # until they are due

        line = manage("chroniker_doctor", "--crontab").stdout
        fields, command = line[: len("* * * * *")], line[len("* * * * *") :]
        assert fields == "* * * * *"
        cron_env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SHELL": "/bin/sh"}
        done = subprocess.run(
            ["/bin/sh", "-c", command], env=cron_env, cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        (mail,) = mail_server.mails
        assert mail["To"] == "ann@example.com"
        assert "broken" in mail["Subject"]

        page = manage(
            "shell", "--no-imports", "-c",
            "from django.test import Client;"
            "print(Client(SERVER_NAME='localhost').get('/metrics').content.decode())",
        ).stdout  # fmt: skip
        samples = {
            (sample.name, sample.labels.get("job_name"), sample.labels.get("reason")): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }
        assert samples["chroniker_job_failures_total", "broken", "error"] >= 1
        assert samples["chroniker_monitor_severity", "Memory", None] == 0
        checked = subprocess.run(
            [str(find_program("promtool")), "check", "metrics"],
            input=page, capture_output=True, text=True,
        )  # fmt: skip
        assert checked.returncode == 0, checked.stderr + checked.stdout

        report = manage("chroniker_doctor").stdout
        assert report.endswith("Nothing is wrong.\n"), report


def mail_settings(port: int, venv: Path, site: Path) -> str:
    """What a site of the installed Django sets to send mail to a server on loopback."""
    code = "import django; print(django.VERSION >= (6, 1))"
    if run(venv / "python", "-c", code, cwd=site).stdout == "True\n":
        backend = "django.core.mail.backends.smtp.EmailBackend"
        options = {"host": "127.0.0.1", "port": port}
        return f"MAILERS = {{'default': {{'BACKEND': {backend!r}, 'OPTIONS': {options!r}}}}}\n"
    return f"EMAIL_HOST = '127.0.0.1'\nEMAIL_PORT = {port}\n"
