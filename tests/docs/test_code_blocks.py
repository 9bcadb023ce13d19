"""Every code block of README and docs runs, or is checked as far as a test can."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import django
import pytest
import yaml

from chroniker.alerting.webhook import build_payload
from chroniker.masking import Masker
from chroniker.models import Incident, Job, Notification, Run
from chroniker.schedules import parse
from tests.support.machine import find_program, free_port
from tests.support.metrics_servers import PrometheusServer
from tests.support.processes import run_server, wait_until
from tests.support.tasks import needs_stored_results

from .blocks import ALL_BLOCKS, LANGUAGES, PAGES, README, REPO, CodeBlock, iter_blocks
from .example_site import ExampleSite
from .shell_lines import BadCommand, check_command, iter_commands

pytestmark = pytest.mark.slow

MAX_NOT_RUN = 3
"""How many blocks may be left out; each says why in the comment before it."""

TUTORIAL = REPO / "docs" / "tutorial" / "first-job.md"
TASKS = REPO / "docs" / "how-to" / "tasks.md"
LONG_RUNNING = ("runserver", "cronserver", "createsuperuser")
"""Commands of the tutorial that serve or ask for input; only their existence is checked."""


def blocks_in(*languages: str) -> list[CodeBlock]:
    return [b for b in ALL_BLOCKS if b.language in languages and not b.not_run]


def python_pages() -> list[Path]:
    pages = {block.page for block in blocks_in("python")} - {README, TUTORIAL, TASKS}
    return sorted(pages)


def module_names(blocks: list[CodeBlock]) -> list[str]:
    files = [b.file for b in blocks if b.file not in ("", "settings.py", "urls.py")]
    return [file.removesuffix(".py").replace("/", ".") for file in files]


def test_every_block_names_its_language() -> None:
    assert [b.where for b in ALL_BLOCKS if b.language not in LANGUAGES] == []


def test_few_blocks_are_left_out_each_with_its_reason() -> None:
    left_out = {block.where: block.not_run for block in ALL_BLOCKS if block.not_run}
    assert len(left_out) <= MAX_NOT_RUN, left_out


# --- Python -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_readme_installs_a_working_site(readme_site: ExampleSite) -> None:
    """As printed: settings, urls.py, migrate, and /metrics answers."""
    blocks = [b for b in iter_blocks(README) if b.language == "python"]
    page = readme_site.run(modules=module_names(blocks), check=True, scrape=True)
    assert "chroniker_build_info" in page


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.prometheus
def test_tutorial_works_step_by_step(bare_site: ExampleSite) -> None:
    """From an empty project to an email and a firing alert."""
    printed = ""
    for block in iter_blocks(TUTORIAL):
        if block.language == "python":
            if not bare_site.apply(block):
                bare_site.run([block])
        elif block.language == "yaml":
            bare_site.write("prometheus.yml", block.text)
        elif block.language == "sh":
            for line in block.text.splitlines():
                if not any(f"manage.py {name}" in line for name in LONG_RUNNING):
                    printed += bare_site.run_shell(line)
    assert "10 letters" in printed
    assert "Subject: [Chroniker] Warning: count digits failed" in printed
    page = bare_site.run(scrape=True)
    assert 'chroniker_job_runs_total{job_name="count letters"} 2' in page
    assert 'chroniker_monitor_severity{job_name="Free space"}' in page
    with run_site(bare_site) as address, run_prometheus(bare_site, address) as prometheus:
        firing = wait_until(
            lambda: prometheus.query(
                'ALERTS{alertname="ChronikerJobFailing", alertstate="firing"}'
            ),
            timeout=60,
        )
    assert [alert["metric"]["job_name"] for alert in firing] == ["count digits"]


@contextlib.contextmanager
def run_site(site: ExampleSite) -> Iterator[str]:
    """Serve the site, as the tutorial does, at a free port; its address."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "manage.py", "runserver", "--noreload", address]
    with run_server(command, site.directory / "site.log", env=site.environ()):
        yield address


@contextlib.contextmanager
def run_prometheus(site: ExampleSite, address: str) -> Iterator[PrometheusServer]:
    """Run Prometheus with the tutorial's file, faster and with the address of the site."""
    file = site.directory / "prometheus.yml"
    text = file.read_text().replace("127.0.0.1:8000", address).replace("15s", "1s")
    file.write_text(text)
    listens = f"127.0.0.1:{free_port()}"
    command = [
        str(find_program("prometheus")),
        f"--config.file={file}",
        f"--storage.tsdb.path={site.directory / 'tsdb'}",
        f"--web.listen-address={listens}",
    ]
    with run_server(command, site.directory / "prometheus.log"):
        yield PrometheusServer(f"http://{listens}")


@pytest.mark.slow
@pytest.mark.parametrize("page", python_pages(), ids=lambda page: page.stem)
def test_python_blocks_of_a_page_run_in_order(page: Path, site: ExampleSite) -> None:
    blocks = [b for b in iter_blocks(page) if b.language == "python" and not b.not_run]
    loose = [block for block in blocks if not site.apply(block)]
    serves = any(block.file == "urls.py" for block in blocks)
    written = site.run(loose, modules=module_names(blocks), check=True, scrape=serves)
    assert "chroniker_build_info" in written or not serves


@needs_stored_results
@pytest.mark.slow
def test_page_about_tasks_runs_with_django_or_the_backport(site: ExampleSite) -> None:
    library = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
    blocks = [
        replace(b, text=b.text.replace("from django.tasks", f"from {library}"))
        for b in iter_blocks(TASKS)
        if b.language == "python"
    ]
    loose = [block for block in blocks if not site.apply(block)]
    written = site.run(loose, modules=module_names(blocks), check=True)
    assert "no argument 'dayz'. Did you mean 'days'?" in written
    (document,) = (block.text for block in iter_blocks(TASKS) if block.language == "yaml")
    (site.directory / "jobs.yml").write_text(document)
    assert "rebuild the index" in site.manage("chroniker_jobs", "plan", "jobs.yml")


# --- everything else --------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks_in("sh", "console"), ids=lambda block: block.where)
def test_shell_commands_exist(block: CodeBlock) -> None:
    commands = iter_commands(block.text, console=block.language == "console")
    assert commands
    written = {
        file.stem for b in iter_blocks(block.page) if "commands" in (file := Path(b.file)).parts
    }
    for words in commands:
        if words[:2] != ["python", "manage.py"] or words[2] not in written:
            check_command(words)


@pytest.mark.parametrize("block", blocks_in("crontab"), ids=lambda block: block.where)
def test_crontab_lines_parse(block: CodeBlock) -> None:
    for line in block.text.splitlines():
        fields, command = line.split(maxsplit=5)[:5], line.split(maxsplit=5)[5]
        parse(" ".join(fields), zone="UTC")
        for words in iter_commands(command):
            check_command(words)


@pytest.mark.parametrize("block", blocks_in("yaml"), ids=lambda block: block.where)
def test_yaml_parses_and_prometheus_accepts_it(block: CodeBlock, tmp_path: Path) -> None:
    found = yaml.safe_load(block.text)
    assert isinstance(found, dict)
    promtool = find_program("promtool")
    if "scrape_configs" in found and promtool:
        file = tmp_path / "prometheus.yml"
        file.write_text(block.text)
        command = [promtool, "check", "config", "--syntax-only", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", blocks_in("json"), ids=lambda block: block.where)
def test_json_parses(block: CodeBlock) -> None:
    assert isinstance(json.loads(block.text), dict)


def test_webhook_example_has_the_fields_of_the_code() -> None:
    page = REPO / "docs" / "how-to" / "notifications.md"
    (block,) = [b for b in iter_blocks(page) if b.language == "json"]
    example = json.loads(block.text)
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    job = Job(pk=12)
    sent = build_payload(
        Notification(
            job=job,
            incident=Incident(pk=7, job=job, opened_at=moment),
            run=Run(pk=4711, job=job),
            created_at=moment,
        ),
        Masker(set()),
    )
    assert field_names(example) == field_names(sent)


def field_names(payload: object) -> object:
    """The names in a payload, nested as they are."""
    if not isinstance(payload, dict):
        return None
    return {name: field_names(value) for name, value in payload.items()}


@pytest.mark.parametrize("block", blocks_in("schedule"), ids=lambda block: block.where)
def test_schedules_parse(block: CodeBlock) -> None:
    assert parse(block.text.strip(), zone="Europe/Berlin", name="example").explain()


# --- the checker itself -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "python manage.py no_such_command",
        "python manage.py cron --no-such-option",
        "chroniker --no-such-option",
        "make no-such-target",
        "pip install 'chroniker[no-such-extra]'",
        "scripts/no-such-script",
        "no-such-program",
    ],
)
def test_wrong_commands_are_noticed(line: str) -> None:
    with pytest.raises(BadCommand):
        for words in iter_commands(line):
            check_command(words)


def test_every_page_is_looked_at() -> None:
    assert {README, TUTORIAL} <= set(PAGES)
    assert len(PAGES) > 20
