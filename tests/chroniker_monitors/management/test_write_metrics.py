"""The ``write_metrics`` command."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.factories import make_job, make_job_state
from tests.support.connections import postgres_wrapper, replace_default_connection
from tests.support.machine import free_port
from tests.support.metrics_page import MetricsPage


@pytest.mark.django_db
def test_file_has_only_metrics_of_chroniker(tmp_path: Path) -> None:
    """node_exporter's own python_ and process_ metrics would collide with those of a process."""
    make_job_state(make_job(name="a"), runs_total=3)
    file = tmp_path / "chroniker.prom"
    file.write_text("old")
    os.chmod(file, 0o600)
    call_command("write_metrics", str(file))
    text = file.read_text()
    assert MetricsPage(text)("chroniker_job_runs_total", job_name="a") == 3
    assert {line.split("_")[0].split()[-1] for line in text.splitlines()} == {"chroniker"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == [file.name]


@pytest.mark.django_db
def test_readers_see_the_old_file_or_the_new(tmp_path: Path) -> None:
    file = tmp_path / "chroniker.prom"
    file.write_text("old")
    with file.open() as reader:
        call_command("write_metrics", str(file))
        assert reader.read() == "old"


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["no/such/folder.prom", "folder"])
def test_unwritable_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CommandError, match="Cannot write"):
        call_command("write_metrics", str(tmp_path / name))
    assert os.listdir(tmp_path) == ["folder"]


def test_file_reports_that_the_database_is_down(transactional_db: None, tmp_path: Path) -> None:
    file = tmp_path / "chroniker.prom"
    with (
        replace_default_connection(postgres_wrapper(free_port())),
        pytest.raises(CommandError, match="did not answer"),
    ):
        call_command("write_metrics", str(file))
    assert MetricsPage(file.read_text())("chroniker_collector_up") == 0


@pytest.mark.django_db
def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    with pytest.raises(CommandError, match="not a regular file"):
        call_command("write_metrics", str(pipe))
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    link.symlink_to(file)
    call_command("write_metrics", str(link))
    assert link.is_symlink() and "chroniker_" in file.read_text()
