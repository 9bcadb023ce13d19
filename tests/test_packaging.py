"""The built package, installed in an empty environment with a fresh site."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.machine import REPO, find_program

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
    """A fresh site as the README describes it: two lines of INSTALLED_APPS, one URL, migrate."""
    directory = tmp_path_factory.mktemp("site")
    run(venv / "django-admin", "startproject", "site_project", directory, cwd=directory)
    with (directory / "site_project" / "settings.py").open("a") as settings:
        settings.write('\nINSTALLED_APPS += ["chroniker", "chroniker_monitors"]\n')
    (directory / "site_project" / "urls.py").write_text(
        "from django.contrib import admin\n"
        "from django.urls import include, path\n\n"
        "urlpatterns = [\n"
        '    path("admin/", admin.site.urls),\n'
        '    path("", include("chroniker_monitors.urls")),\n'
        "]\n"
    )
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
        for pattern in ("dashboards/*.json", "dashboards/provisioning/*.yml", "alerts/*.yml")
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
