"""The scheduler's own log as JSON."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chroniker.logs import JsonFormatter, log_context
from chroniker.models import OutputChunk, Run
from tests.factories import make_action_job
from tests.support.machine import REPO
from tests.support.types import RunManage

FIELDS = ["time", "level", "logger", "message", "job", "run", "host"]
SITE = """
from tests.settings import *
CHRONIKER_LOG_JSON = True
CHRONIKER_HOSTNAME = "pod-7"
LOGGING = {"version": 1, "disable_existing_loggers": False,
           "loggers": {"chroniker": {"level": "INFO"}}}
"""


def format_record(message: str, *args: object, **options: Any) -> dict[str, Any]:
    record = logging.getLogger("chroniker.test").makeRecord(
        "chroniker.test", logging.WARNING, "f", 1, message, args, options.pop("exc_info", None),
        extra=options,
    )  # fmt: skip
    text = JsonFormatter().format(record)
    assert "\n" not in text
    entry: dict[str, Any] = json.loads(text)
    return entry


def test_record_has_all_fields(settings: Any) -> None:
    settings.CHRONIKER_HOSTNAME = "pod-7"
    entry = format_record("Run %s\nis lost", 4711, **log_context(job="imp\u00f6rt", run=4711))
    assert list(entry) == FIELDS
    assert entry["message"] == "Run 4711\nis lost"
    assert (entry["job"], entry["run"], entry["host"]) == ("imp\u00f6rt", 4711, "pod-7")
    assert (entry["level"], entry["logger"]) == ("WARNING", "chroniker.test")
    assert entry["time"].endswith("+00:00")


def test_record_of_another_library_has_them_too(settings: Any) -> None:
    settings.CHRONIKER_HOSTNAME = "pod-7"
    entry = format_record("plain")
    assert (entry["job"], entry["run"], entry["host"]) == (None, None, "pod-7")


def test_exception_stays_on_one_line() -> None:
    try:
        raise ValueError("boom")
    except ValueError as error:
        entry = format_record("failed", exc_info=(ValueError, error, error.__traceback__))
    assert entry["exception"].endswith("ValueError: boom")


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for package in ("engine", "executors", "processes", "alerting", "db", "health"):
        for file in sorted((REPO / "chroniker" / package).glob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id == "logger"
                ):
                    yield f"{package}/{file.name}:{node.lineno}", node


def test_every_record_of_the_scheduler_says_what_it_is_about() -> None:
    calls = list(log_calls())
    assert len(calls) > 20
    bare = [
        where for where, call in calls if not any(word.arg == "extra" for word in call.keywords)
    ]
    assert bare == []


@pytest.fixture
def json_site(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "json_site.py").write_text(SITE)
    return ("--settings", "json_site", "--pythonpath", str(tmp_path))


@pytest.mark.django_db(transaction=True)
def test_tick_logs_json_and_jobs_do_not(manage: RunManage, json_site: tuple[str, ...]) -> None:
    job = make_action_job("log chroniker.something")
    done = manage("cron", *json_site)
    assert (done.returncode, done.stdout) == (0, "")
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    run = Run.objects.get()
    assert [(entry["job"], entry["run"], entry["host"]) for entry in entries] == [
        (job.name, run.pk, "pod-7")
    ] * 2
    assert entries[0]["message"] == f"Run {run.pk} of job {job.name} has started"
    assert entries[1]["message"] == f"Run {run.pk} of job {job.name}: succeeded"
    assert not OutputChunk.objects.filter(stream="stderr").exists()
    assert "{" not in "".join(OutputChunk.objects.values_list("text", flat=True))


@pytest.mark.django_db(transaction=True)
def test_error_that_ends_the_tick_is_a_record(
    manage: RunManage, json_site: tuple[str, ...], tmp_path: Path
) -> None:
    make_action_job("say hello")
    (tmp_path / "file").touch()
    with (tmp_path / "json_site.py").open("a") as site:
        site.write(f"CHRONIKER_RUNTIME_DIR = '{tmp_path}/file/below'\n")
    done = manage("cron", *json_site)
    assert done.returncode == 1
    [entry] = [json.loads(line) for line in done.stderr.splitlines()]
    assert entry["level"] == "CRITICAL"
    assert "file/below" in entry["message"]
