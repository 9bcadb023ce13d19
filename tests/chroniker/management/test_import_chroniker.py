"""``import_chroniker``, with dumps that django-chroniker 1.1 has written itself."""

from __future__ import annotations

import json
import re
import tempfile
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from chroniker.engine.planning import plan_changed_jobs
from chroniker.enums import RunStatus
from chroniker.models import Job, JobDependency, JobState, OutputChunk, Run
from chroniker_monitors.models import Monitor
from tests.factories import make_job, make_user

pytestmark = pytest.mark.django_db

DATA = Path(__file__).parents[1] / "imports" / "data"
DUMP = DATA / "original.json"
NATURAL = DATA / "original_natural.json"
NOW = datetime(2026, 11, 30, 6, 14, 30, tzinfo=UTC)
"""Half a minute before the next run of the jobs in the dump."""


@pytest.fixture(autouse=True)
def _at_the_time_of_the_dump() -> Any:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def users() -> tuple[User, User]:
    """The users of the dump, with other keys than there."""
    make_user("somebody else")
    return make_user("ann"), make_user("bob")


def run_import(*words: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("import_chroniker", *words, stdout=out)
    except SystemExit as ended:
        return int(str(ended.code)), out.getvalue()
    return 0, out.getvalue()


def problems(text: str) -> dict[str, list[str]]:
    """What was not taken over, by job; each has a line that says what to do."""
    found: dict[str, list[str]] = {}
    lines = text.partition("Not taken over:\n")[2].partition("\n\n")[0].splitlines()
    for what, remedy in zip(lines[::2], lines[1::2], strict=True):
        assert what.startswith("- ") and remedy.startswith("  ") and remedy.endswith("."), text
        name, _, reason = what[2:].partition(": ")
        found.setdefault(name, []).append(reason)
    return found


def snapshot() -> Any:
    """All rows that an import may write."""
    models = (Job, JobDependency, Run, OutputChunk, JobState, Job.subscribers.through)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.mark.one_database
def test_takes_over_a_dump_with_natural_keys(users: tuple[User, User]) -> None:
    """Two jobs have one name there, so only one of them can be found by it."""
    found = problems(run_import(str(NATURAL))[1])
    assert "another job of the dump has the same key" in found["nightly report"]
    assert set(Job.objects.get(name="nightly import").subscribers.all()) == set(users)
    assert JobDependency.objects.filter(upstream__name="nightly import").exists()
    assert Run.objects.filter(job__name="nightly import").count() == 50


def test_takes_over_everything_that_there_is_a_place_for(
    users: tuple[User, User], settings: Any
) -> None:
    settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
    dump = json.loads(DUMP.read_text())
    old = {user.username: user for user in users}
    for row in dump:  # as if the dump had been written on this database
        names = [{1: "ann", 2: "bob"}[key] for key in row["fields"].get("subscribers", ())]
        row["fields"]["subscribers"] = [old[name].pk for name in names]
    code, text = _import_rows(dump)
    assert code == 3, text
    found = problems(text)
    assert set(found) == {"orders check", "gone", "easter", "own mail", "nightly report #43"}
    assert "Order.objects.filter(paid=False)" in found["orders check"][0]
    assert "no_such_command" in found["gone"][0]
    assert found["nightly report #43"] == ["it waits for gone, which was not taken over"]

    first = Job.objects.get(name="nightly import")
    assert (first.command, first.args, first.timeout_seconds) == ("act", "say hello", 600)
    assert (first.email_on_failure, first.email_on_success) == (True, True)
    assert first.max_runs_kept == 50
    assert set(first.subscribers.all()) == set(users)
    second = Job.objects.get(name="nightly report")
    assert second.args == "say --actions=hello --verbosity=2 --no-color"
    assert (second.hostname, second.email_on_failure, second.log_stdout) == ("web1", False, False)
    third = Job.objects.get(name="nightly report #43")
    assert (third.hostname, third.max_runs_kept) == ("*", None)
    assert Job.objects.get(name="backup").raw_command == "/usr/local/bin/backup --all 'my files'"
    assert not Job.objects.get(name="off").enabled
    easter = Job.objects.get(name="easter")
    assert (easter.schedule, easter.enabled) == ("", False)

    edges = JobDependency.objects.values_list(
        "downstream__name", "upstream__name", "wait_for_success", "wait_for_next_run"
    )
    assert set(edges) == {
        ("nightly report", "nightly import", True, False),
        ("nightly report #43", "nightly report", False, True),
    }

    monitor = Monitor.objects.get(name="disk check")
    assert monitor.probe.kind == "command"
    assert monitor.probe.params["mode"] == "stderr"
    assert monitor.runbook_url == "https://wiki.example.com/disk"
    assert monitor.description == "Is the disk full?"
    assert not Job.objects.filter(name="orders check").exists()

    runs = Run.objects.filter(job=first).order_by("started_at")
    assert len(runs) == 50
    assert {run.ran_on for run in runs} == {"web1"}
    last = runs[49]
    assert (last.status, last.duration_seconds) == (RunStatus.SUCCEEDED, 90)
    assert OutputChunk.objects.get(run=last, stream="stdout").text == "imported 59 rows\n"
    state = JobState.objects.get(job=first)
    assert (state.last_status, state.runs_total) == ("succeeded", 0)
    assert Run.objects.get(job=third).host == "web2"

    assert plan_changed_jobs(NOW) == Job.objects.count()
    occurrences = json.loads((DATA / "original_occurrences.json").read_text())
    for name, times in occurrences.items():
        state = JobState.objects.get(job__name=name.strip())
        assert state.next_slot_at is not None
        assert state.next_slot_at.isoformat() in times[:2], name


def _import_rows(rows: Any) -> tuple[int, str]:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(rows, file)
        file.flush()
        return run_import(file.name)


@pytest.mark.one_database
def test_importing_twice_changes_nothing(users: tuple[User, User]) -> None:
    run_import(str(DUMP))
    before = snapshot()
    code, text = run_import(str(DUMP))
    assert snapshot() == before
    assert code == 3
    assert "Created 0 jobs, 0 dependencies and 0 runs." in text


@pytest.mark.one_database
def test_dry_run_prints_the_same_table_and_writes_nothing(users: tuple[User, User]) -> None:
    code, text = run_import(str(DUMP), "--dry-run")
    assert code == 3
    assert snapshot() == [[] for _ in snapshot()]
    assert re.search(
        r"(?m)^create +nightly import +act say hello +15 6 \* \* \* +2026-11-30 06:15", text
    )
    assert problems(run_import(str(DUMP))[1]) == problems(text)


@pytest.mark.one_database
def test_job_that_somebody_has_edited_or_had_before_is_left_as_it_is() -> None:
    make_job(name="nightly import", args="mine")
    _, text = run_import(str(DUMP))
    assert Job.objects.get(name="nightly import").args == "mine"
    assert re.search(r"(?m)^exists +nightly import", text)
    # Its downstream job is new, and still waits for it.
    assert JobDependency.objects.filter(upstream__name="nightly import").count() == 1


@pytest.mark.one_database
def test_what_was_refused_is_taken_over_once_the_reason_is_gone(settings: Any) -> None:
    assert "backup" in problems(run_import(str(DUMP))[1])
    settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
    _, text = run_import(str(DUMP))
    assert "Created 1 job, " in text
    assert Job.objects.filter(name="backup").exists()


@pytest.mark.one_database
def test_subscribers_that_do_not_exist_are_named() -> None:
    found = problems(run_import(str(NATURAL))[1])
    assert found["nightly import"] == [
        "its subscriber ann does not exist here", "its subscriber bob does not exist here",
    ]  # fmt: skip


@pytest.mark.one_database
def test_history_can_be_left_out() -> None:
    run_import(str(DUMP), "--without-history")
    assert not Run.objects.exists()


@pytest.mark.one_database
@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "[]", '[{"model": "chroniker.job", "pk": 1, "fields": {"name": "x"}}]',
     '[{"model": "chroniker.job", "pk": 1}]'],
)  # fmt: skip
def test_other_files_are_refused_in_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "dump.json"
    file.write_text(text)
    with pytest.raises(CommandError) as caught:
        run_import(str(file))
    assert "\n" not in str(caught.value)
    with pytest.raises(CommandError, match="cannot be read"):
        run_import(str(tmp_path / "none.json"))


@pytest.mark.one_database
@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""}, {"name": "x" * 300}, {"name": "a\nb"}, {"args": "say 'open"},
        {"next_run": "soon"}, {"hostname": "h" * 700}, {"params": "byhour:" + "9," * 300 + "9"},
        {"subscribers": None}, {"timeout_seconds": "many"}, {"command": ""},
        {"timeout_seconds": 10**12},
    ],
)  # fmt: skip
def test_strange_rows_end_in_a_report_or_one_line(fields: dict[str, Any]) -> None:
    rows = json.loads(DUMP.read_text())
    job = next(row for row in rows if row["fields"].get("name") == "nightly import")
    job["fields"].update(fields)
    try:
        code, text = _import_rows([job])
    except CommandError as error:
        assert "\n" not in str(error)
    else:
        assert code in (0, 3)
        assert bool(problems(text)) == (code == 3)
