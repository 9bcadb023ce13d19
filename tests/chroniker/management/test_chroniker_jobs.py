"""Jobs as code."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.utils.timezone import now

from chroniker import declarations
from chroniker.declarations import DeclaredJob, declare, scheduled
from chroniker.models import Declaration, Job, JobDependency, Maintenance
from chroniker_monitors.models import Monitor
from tests.factories import make_job, make_maintenance, make_monitor, make_running, make_user
from tests.support.tasks import TASKS, needs_tasks

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

DOCUMENT = """\
version: 1
jobs:
  fetch:
    command: act
    args: say fetch
    schedule: "@daily"
    timezone: Europe/Berlin
    team: shop
    timeout_seconds: 600
    subscriber_groups: [shop]
  import:
    command: noop
    waits_for: [fetch]
  report:
    command: noop
    enabled: false
    waits_for:
      - fetch
      - {job: import, wait_for_success: false, wait_for_next_run: true}
monitors:
  Disk space:
    kind: disk
    params: {path: /}
    operator: ">"
    warning: 80
    critical: 90.5
    schedule: "@every 5m"
  Nightly upload:
    kind: heartbeat
    params: {period_seconds: 86400, grace_seconds: 3600}
maintenance:
  - reason: Move
    starts_at: 2099-12-24T18:00+01:00
    ends_at: 2099-12-26T18:00+01:00
    pause: true
    jobs: [fetch]
"""


def jobs(*words: object) -> str:
    out = StringIO()
    call_command("chroniker_jobs", *map(str, words), stdout=out)
    return out.getvalue()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_file(text: str) -> Path:
        file = tmp_path / "jobs.yml"
        file.write_text(text)
        return file

    return write_file


@pytest.fixture
def file(write: Callable[[str], Path]) -> Path:
    Group.objects.create(name="shop")
    return write(DOCUMENT)


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[str, str], DeclaredJob]]:
    """No declarations but those of the test."""
    found: dict[tuple[str, str], DeclaredJob] = {}
    monkeypatch.setattr(declarations, "_declared", found)
    yield found


def snapshot() -> Any:
    models = (Job, JobDependency, Maintenance, Maintenance.jobs.through, Declaration)
    return [list(model.objects.order_by("pk").values()) for model in models]  # type: ignore[attr-defined]


def change(file: Path, **fields: Any) -> None:
    """Change fields of the job ``fetch`` in the file; None removes one."""
    document = yaml.safe_load(file.read_text())
    job = document["jobs"]["fetch"]
    job.update(fields)
    document["jobs"]["fetch"] = {name: value for name, value in job.items() if value is not None}
    file.write_text(yaml.safe_dump(document))


def test_apply_creates_what_plan_shows_and_a_second_time_nothing(file: Path) -> None:
    plan = jobs("plan", file)
    assert not Job.objects.exists()
    assert "+ jobs: fetch  (jobs.yml)" in plan
    assert '    schedule: "@daily"' in plan
    assert plan.splitlines()[-1] == "6 to be created."
    applied = jobs("apply", file)
    assert applied.splitlines()[-1] == "6 created."

    fetch = Job.objects.get(name="fetch")
    assert (fetch.schedule, fetch.timezone, fetch.team) == ("@daily", "Europe/Berlin", "shop")
    assert [group.name for group in fetch.subscriber_groups.all()] == ["shop"]
    edge = JobDependency.objects.get(downstream__name="report", upstream__name="import")
    assert (edge.wait_for_completion, edge.wait_for_success, edge.wait_for_next_run) == (
        True, False, True,
    )  # fmt: skip
    disk = Monitor.objects.get(name="Disk space")
    assert (disk.probe.critical, disk.probe.params) == (90.5, {"path": "/"})
    assert Monitor.objects.get(name="Nightly upload").probe.ping_uuid is not None
    window = Maintenance.objects.get()
    assert window.pause
    assert [job.name for job in window.jobs.all()] == ["fetch"]

    before = snapshot()
    assert jobs("apply", file) == "Nothing to change.\n"
    assert snapshot() == before
    jobs("plan", file, "--check")


def test_round_trip_is_exact(file: Path, tmp_path: Path) -> None:
    jobs("apply", file)
    user = make_user("ann")
    Job.objects.get(name="fetch").subscribers.add(user)
    first = tmp_path / "first.yml"
    jobs("export", first)
    before = snapshot()
    assert jobs("apply", first, "--prune") == "Nothing to change.\n"
    assert snapshot()[:-1] == before[:-1]
    as_json = tmp_path / "second.json"
    jobs("export", as_json)
    assert jobs("plan", as_json, "--prune") == "Nothing to change.\n"
    Job.objects.all().delete()
    Maintenance.objects.all().delete()
    jobs("apply", as_json)
    assert jobs("export") == first.read_text()


def test_change_in_the_file_is_applied_and_what_is_left_out_is_the_default(file: Path) -> None:
    jobs("apply", file)
    change(file, timeout_seconds=None, args="say more", waits_for=["import"])
    document = yaml.safe_load(file.read_text())
    del document["jobs"]["import"]["waits_for"]
    file.write_text(yaml.safe_dump(document))
    text = jobs("apply", file)
    assert "    timeout_seconds: 600 -> null" in text
    assert '    args: "say fetch" -> "say more"' in text
    assert Job.objects.get(name="fetch").timeout_seconds is None
    assert JobDependency.objects.filter(downstream__name="fetch").count() == 1
    assert not JobDependency.objects.filter(downstream__name="import").exists()


def test_plan_shows_an_edit_in_the_admin(file: Path) -> None:
    jobs("apply", file)
    Job.objects.filter(name="fetch").update(schedule="0 5 * * *")
    text = jobs("plan", file)
    assert (
        '    schedule: "0 5 * * *" -> "@daily"  edited by a person since it was last applied'
        in text
    )
    with pytest.raises(SystemExit) as ended:
        jobs("plan", file, "--check")
    assert ended.value.code == 1
    jobs("apply", file)
    assert Job.objects.get(name="fetch").schedule == "@daily"


def test_nothing_is_pruned_unless_asked(file: Path) -> None:
    make_job(name="mine")
    make_monitor(name="my monitor")
    make_maintenance(now() + timedelta(days=1), 60)
    text = jobs("apply", file)
    assert "left as they are: mine, my monitor." in text
    assert Job.objects.filter(name__in=["mine", "my monitor"]).count() == 2
    text = jobs("apply", file, "--prune")
    assert "- jobs: mine" in text and "- monitors: my monitor" in text
    assert Job.objects.count() == 5
    assert Maintenance.objects.count() == 1
    with pytest.raises(CommandError, match="--prune needs a FILE"):
        jobs("apply", "--prune")


def test_running_job_is_not_pruned(file: Path) -> None:
    make_running(make_job(name="mine"))
    with pytest.raises(CommandError, match="mine: is running"):
        jobs("apply", file, "--prune")
    assert Job.objects.count() == 1


MISTAKES = {
    "version: 2": "version: must be 1",
    "job: {}": "job: is unknown. Did you mean jobs?",
    "jobs: []": "jobs: must be a mapping",
    "jobs: {a: [1]}": "jobs.a: must be a mapping",
    "jobs: {1: {command: noop}}": "jobs.1: a name must be a text",
    "jobs: {a: {command: noop, schedul: x}}": "jobs.a.schedul: is unknown. Did you mean schedule?",
    "jobs: {a: {command: noop, schedule: 5}}": "jobs.a.schedule: must be a text in quotes, not 5",
    "jobs: {a: {command: noop, enabled: 1}}": "jobs.a.enabled: must be true or false",
    "jobs: {a: {command: noop, priority: true}}": "jobs.a.priority: must be a whole number",
    "jobs: {a: {command: noop, schedule: '0 0 31 2 *'}}": "jobs.a.schedule",
    "jobs: {a: {command: noop, timezone: Mars}}": "jobs.a.timezone",
    "jobs: {a: {command: noop, timezone: null}}": "jobs.a.timezone: must not be empty",
    "jobs: {a: {command: no_such}}": "jobs.a.command: There is no management command",
    "jobs: {a: {raw_command: ls}}": "jobs.a.raw_command: This site does not allow raw commands",
    "jobs: {a: {}}": "jobs.a",
    "jobs: {a: {command: noop, timeout_seconds: 0}}": "jobs.a.timeout_seconds",
    "jobs: {a: {command: noop, team: 'a\\nb'}}": "jobs.a.team",
    "jobs: {a: {command: noop, subscriber_groups: [x]}}": "there is no group x",
    "jobs: {a: {command: noop, subscriber_groups: x}}": "must be a list of names",
    "jobs: {a: {command: noop, waits_for: [b]}}": "jobs.a.waits_for: there is no job b",
    "jobs: {a: {command: noop, waits_for: [a]}}": "jobs.a.waits_for",
    "jobs: {a: {command: noop, waits_for: [{}]}}": "each entry is a name",
    "jobs: {a: {command: noop, waits_for: [b]}, b: {command: noop, waits_for: [a]}}":
        "wait for each other: ",
    "jobs: {a: {command: noop}}\nmonitors: {a: {kind: memory}}": "a is also in jobs.yml",
    "monitors: {m: {}}": "monitors.m.kind: is missing",
    "monitors: {m: {kind: nothing}}": "monitors.m.kind",
    "monitors: {m: {kind: disk, params: {paths: /}}}": "monitors.m.params: paths",
    "monitors: {m: {kind: disk, params: []}}": "monitors.m.params",
    "monitors: {m: {kind: memory, command: noop}}": "monitors.m.command: is unknown",
    "monitors: {m: {kind: memory, warning: high}}": "monitors.m.warning: must be a number",
    "maintenance: {}": "maintenance: must be a list",
    "maintenance: [{starts_at: 2099-01-01T00:00}]": "maintenance[0].ends_at: must be a time",
    "maintenance: [{starts_at: 2099-01-02T00:00, ends_at: 2099-01-01T00:00}]": "must end after",
    "maintenance: [{starts_at: 2099-01-01T00:00, ends_at: 2099-01-02T00:00, jobs: []}]":
        "leave it out for all jobs",
    "maintenance: [{starts_at: 2099-01-01T00:00, ends_at: 2099-01-02T00:00, jobs: [x]}]":
        "there is no job x",
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_mistake_is_named_and_nothing_is_written(text: str, write: Callable[[str], Path]) -> None:
    make_job(name="before")
    before = snapshot()
    good = "" if "jobs:" in text else "jobs: {good: {command: noop}}\n"
    with pytest.raises(CommandError) as caught:
        jobs("apply", write(good + text))
    assert MISTAKES[text] in str(caught.value)
    assert "Nothing was changed" in str(caught.value)
    assert snapshot() == before


def test_all_mistakes_are_named_at_once(write: Callable[[str], Path]) -> None:
    text = "jobs: {a: {command: no_such}, b: {command: noop, schedule: 'x y'}, c: {command: noop}}"
    with pytest.raises(CommandError) as caught:
        jobs("apply", write(text))
    assert "jobs.a.command" in str(caught.value) and "jobs.b.schedule" in str(caught.value)
    assert not Job.objects.exists()


def test_job_cannot_become_a_monitor(write: Callable[[str], Path]) -> None:
    make_job(name="a")
    with pytest.raises(CommandError, match="exists, but under jobs"):
        jobs("apply", write("monitors: {a: {kind: memory}}"))


# --- declarations in Python -------------------------------------------------------------------


def test_declared_jobs_are_created_and_edits_are_kept_unless_told() -> None:
    class Command:
        pass

    Command.__module__ = "shop.management.commands.noop"
    assert scheduled("H 3 * * *", team="shop")(Command) is Command
    declare("Memory", kind="memory", warning=90, schedule="@every 1m")
    assert "+ jobs: noop  (shop.management.commands.noop)" in jobs("plan")
    jobs("apply")
    job = Job.objects.get(name="noop")
    assert (job.command, job.schedule, job.team) == ("noop", "H 3 * * *", "shop")
    assert Monitor.objects.get().probe.warning == 90
    assert jobs("apply") == "Nothing to change.\n"

    Job.objects.filter(pk=job.pk).update(schedule="0 4 * * *")
    text = jobs("apply")
    assert '"0 4 * * *" -> "H 3 * * *"  edited by a person, kept' in text
    assert text.splitlines()[-1] == "1 kept as edited."
    assert Job.objects.get(pk=job.pk).schedule == "0 4 * * *"

    # The declaration changes: what nobody has edited follows, the edit stays.
    scheduled("H 5 * * *", team="books")(Command)
    jobs("apply")
    job.refresh_from_db()
    assert (job.schedule, job.team) == ("0 4 * * *", "books")
    jobs("apply")
    job.refresh_from_db()
    assert job.schedule == "0 4 * * *"
    jobs("apply", "--overwrite")
    job.refresh_from_db()
    assert job.schedule == "H 5 * * *"


def test_job_that_existed_before_its_declaration_is_not_changed() -> None:
    make_job(name="a", args="mine")
    declare("a", command="noop", args="theirs")
    assert "kept; --overwrite" in jobs("apply")
    assert Job.objects.get().args == "mine"


def test_file_wins_over_a_declaration(write: Callable[[str], Path]) -> None:
    declare("a", command="noop", args="python")
    declare("b", command="noop")
    jobs("apply", write("jobs: {a: {command: noop, args: file}}"), "--prune")
    assert dict(Job.objects.values_list("name", "args")) == {"a": "file", "b": ""}


def test_mistake_in_a_declaration_is_named() -> None:
    declare("a", command="noop", shedule="@daily")
    with pytest.raises(CommandError, match=r"jobs\.a\.shedule: is unknown. Did you mean schedule"):
        jobs("plan")


def test_modules_of_apps_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    app = tmp_path / "asc_shop"
    commands = app / "management" / "commands"
    commands.mkdir(parents=True)
    for folder in (app, app / "management", commands):
        (folder / "__init__.py").touch()
    (app / "chroniker_jobs.py").write_text(
        'from chroniker import declare\ndeclare("warm", command="asc_sweep", args="--all")\n'
    )
    (commands / "asc_sweep.py").write_text(
        "from django.core.management.base import BaseCommand\n"
        "from chroniker import scheduled\n"
        '@scheduled("@hourly", name="sweep")\n'
        "class Command(BaseCommand):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "asc_shop"]
    from django.core.management import get_commands

    get_commands.cache_clear()
    try:
        jobs("apply")
        assert dict(Job.objects.values_list("name", "command")) == {
            "warm": "asc_sweep", "sweep": "asc_sweep",
        }  # fmt: skip
        (commands / "asc_broken.py").write_text("import no_such_module_at_all\n")
        get_commands.cache_clear()
        with pytest.raises(CommandError, match=r"asc_broken cannot be imported"):
            jobs("apply")
    finally:
        get_commands.cache_clear()


def test_export_replaces_the_file_at_once_or_not_at_all(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    make_job(name="a", description="x" * 5000)
    file = tmp_path / "jobs.yml"
    file.write_text("jobs: {}\n")
    file.chmod(0o640)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # a disk that is full
    try:
        with pytest.raises(CommandError, match=r"jobs\.yml: File too large"):
            jobs("export", file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert file.read_text() == "jobs: {}\n"
    assert list(tmp_path.iterdir()) == [file]
    jobs("export", file)
    assert "x" * 50 in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    with pytest.raises(CommandError, match=r"^\S*/none/jobs\.yml: No such file or directory$"):
        jobs("export", tmp_path / "none" / "jobs.yml")


def test_advice_to_prune_can_be_followed(file: Path) -> None:
    make_job(name="old")
    text = jobs("plan")
    assert "With a FILE, --prune deletes them, with their history." in text
    with pytest.raises(CommandError, match="--prune needs a FILE"):
        jobs("apply", "--prune")
    assert "- jobs: old" in jobs("apply", file, "--prune")


TASK_DOCUMENT = f"""\
version: 1
jobs:
  say:
    task: {TASKS}.say
    task_args: [hello]
    task_kwargs: {{times: 2}}
"""


@needs_tasks
def test_task_is_applied_and_exported(write: Callable[[str], Path], tmp_path: Path) -> None:
    jobs("apply", write(TASK_DOCUMENT))
    job = Job.objects.get()
    assert (job.task, job.task_args, job.task_kwargs) == (f"{TASKS}.say", ["hello"], {"times": 2})
    jobs("export", tmp_path / "out.yml")
    assert yaml.safe_load((tmp_path / "out.yml").read_text())["jobs"]["say"].keys() >= {
        "task", "task_args", "task_kwargs",
    }  # fmt: skip
    assert jobs("apply", tmp_path / "out.yml") == "Nothing to change.\n"
    with pytest.raises(
        CommandError, match=r"jobs\.say\.task_kwargs: say\(\) has no argument 'tims'"
    ):
        jobs("plan", write(TASK_DOCUMENT.replace("times", "tims")))
    with pytest.raises(CommandError, match=r"jobs\.say\.task_args: Enter a list in JSON"):
        jobs("plan", write(TASK_DOCUMENT.replace("[hello]", "hello")))


@needs_tasks
def test_task_can_be_scheduled_where_it_is_defined(
    declared: dict[tuple[str, str], DeclaredJob],
) -> None:
    from tests.testapp.tasks import report_progress_to

    before = scheduled("@hourly", task_args=[3], team="shop")(report_progress_to)
    assert before is report_progress_to
    jobs("apply")
    job = Job.objects.get()
    assert (job.name, job.task) == ("report_progress_to", f"{TASKS}.report_progress_to")
    assert (job.schedule, job.task_args, job.team) == ("@hourly", [3], "shop")


def test_schema_accepts_the_example_and_rejects_mistakes(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(jobs("schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    document = json.loads(json.dumps(yaml.safe_load(DOCUMENT), default=lambda v: v.isoformat()))
    assert list(validator.iter_errors(document)) == []
    task = {"task": "a.tasks.b", "task_args": [1], "task_kwargs": {"a": [None]}, "enqueue": True}
    document["jobs"]["task"] = task
    assert list(validator.iter_errors(document)) == []
    document["jobs"]["fetch"]["timeout_seconds"] = "long"
    document["jobs"]["fetch"]["schedul"] = "x"
    assert len(list(validator.iter_errors(document))) == 2
    jobs("schema", tmp_path / "schema.json")
    assert json.loads((tmp_path / "schema.json").read_text()) == schema
