"""The permission of every page and action; GET changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from chroniker.models import Host, Job, JobState, Run
from tests.factories import make_incident, make_job, make_output, make_run, make_running
from tests.support.admin import JOB_FORM, admin_url, post_action
from tests.support.types import SignIn

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

# URL name, object of the URL, required permission, method
PAGES = [
    ("job_changelist", None, "view_job", "get"),
    ("job_add", None, "add_job", "get"),
    ("job_change", "job", "view_job", "get"),
    ("job_page", "job", "view_job", "get"),
    ("job_page_live", "job", "view_job", "get"),
    ("job_overview", None, "view_job", "get"),
    ("job_overview_live", None, "view_job", "get"),
    ("job_calendar", None, "view_job", "get"),
    ("job_command_help", None, "add_job", "get"),
    ("job_command_help", None, "change_job", "get"),
    ("job_history", "job", "view_job", "get"),
    ("job_delete", "job", "delete_job", "get"),
    ("job_preview", None, "add_job", "get"),
    ("job_preview", None, "change_job", "get"),
    ("run_changelist", None, "view_run", "get"),
    ("run_change", "run", "view_run", "get"),
    ("run_delete", "run", "delete_run", "get"),
    ("run_live", "run", "view_run", "get"),
    ("host_changelist", None, "view_host", "get"),
    ("host_change", "host", "view_host", "get"),
]

POSTS = [
    ("job_run", "job", ("view_job", "run_job")),
    ("job_stop", "job", ("view_job", "stop_job")),
    ("run_stop", "run", ("view_run", "stop_job")),
]
ALL_POSTS = [
    *POSTS,
    ("incident_acknowledge", "incident", ("view_incident", "change_incident")),
]

OUTPUT_PAGES = ("run_tail", "run_output")


@pytest.fixture
def rows(db: None) -> dict[str, Any]:
    job = make_job()
    return {
        "job": job,
        "run": make_run(job),
        "host": Host.objects.create(name="web1"),
        "incident": make_incident(job),
    }


@pytest.mark.parametrize(("name", "row", "permission", "method"), PAGES)
def test_each_page_requires_its_permission(
    sign_in: SignIn, rows: dict[str, Any], name: str, row: str, permission: str, method: str
) -> None:
    url = admin_url(name, rows.get(row))
    anonymous = Client().get(url)
    assert anonymous.status_code == 302
    assert "/login/" in anonymous["Location"]
    assert sign_in().get(url).status_code == 403
    assert sign_in(permission).get(url).status_code == 200


@pytest.mark.parametrize(("name", "row", "permissions"), POSTS)
def test_each_button_requires_both_permissions(
    sign_in: SignIn, rows: dict[str, Any], name: str, row: str, permissions: tuple[str, str]
) -> None:
    url = admin_url(name, rows[row])
    assert "/login/" in Client().post(url)["Location"]
    for lacking in ((), permissions[:1], permissions[1:]):
        assert sign_in(*lacking).post(url).status_code == 403
    assert JobState.objects.count() == 0
    assert LogEntry.objects.count() == 0
    assert sign_in(*permissions).post(url).status_code == 302


def test_acknowledging_requires_permission(sign_in: SignIn, rows: dict[str, Any]) -> None:
    url = admin_url("incident_acknowledge", rows["incident"])
    assert "/login/" in Client().post(url)["Location"]
    assert sign_in("view_incident").post(url).status_code == 403
    assert LogEntry.objects.count() == 0


@pytest.mark.parametrize(("name", "row", "permissions"), ALL_POSTS)
def test_buttons_require_post_and_csrf_token(
    sign_in: SignIn, rows: dict[str, Any], name: str, row: str, permissions: tuple[str, str]
) -> None:
    url = admin_url(name, rows[row])
    assert sign_in(*permissions).get(url).status_code == 405
    assert sign_in(*permissions, csrf=True).post(url).status_code == 403
    assert JobState.objects.count() == 0
    assert LogEntry.objects.count() == 0


def test_button_of_the_page_has_the_csrf_token(sign_in: SignIn, rows: dict[str, Any]) -> None:
    client = sign_in("view_job", "run_job", csrf=True)
    page = client.get(admin_url("job_page", rows["job"]))
    token = client.cookies["csrftoken"].value
    assert f'action="{admin_url("job_run", rows["job"])}"' in page.content.decode()
    url = admin_url("job_run", rows["job"])
    answer = client.post(url, {"csrfmiddlewaretoken": token})
    assert answer.status_code == 302
    assert JobState.objects.get().run_requested_at is not None


def test_missing_rows_are_404_only_with_permission(sign_in: SignIn) -> None:
    for name in OUTPUT_PAGES:
        url = reverse(f"admin:chroniker_{name}", args=[10**30])
        assert sign_in("view_run", "view_output").get(url).status_code == 404
        assert sign_in().get(url).status_code == 403
    url = reverse("admin:chroniker_job_run", args=[4711])
    assert sign_in("view_job", "run_job").post(url).status_code == 404
    assert sign_in("run_job").post(url).status_code == 403


def test_get_requests_change_nothing(root: Client, rows: dict[str, Any]) -> None:
    running = make_running(make_job(schedule="@daily"))
    before = snapshot()
    for name, row, _permission, _method in PAGES:
        assert root.get(admin_url(name, rows.get(row))).status_code == 200
    for name, row, _permissions in ALL_POSTS:
        assert root.get(admin_url(name, rows[row])).status_code == 405
    url = admin_url("job_changelist")
    for name in ("run_now", "stop", "enable", "disable"):
        root.get(url, {"action": name, "_selected_action": running.job_id})
    assert snapshot() == before


def snapshot() -> list[Any]:
    return [
        list(model._default_manager.order_by("pk").values())
        for model in (Job, JobState, Run, Host, LogEntry)
    ]


@pytest.mark.parametrize(
    ("name", "permission"),
    [
        ("run_now", "run_job"),
        ("stop", "stop_job"),
        ("enable", "change_job"),
        ("disable", "change_job"),
    ],
)
def test_actions_require_their_permission(sign_in: SignIn, name: str, permission: str) -> None:
    job = make_job(enabled=name == "disable")
    make_running(job)
    others = {"run_job", "stop_job", "delete_job"} - {permission}
    client = sign_in("view_job", *others)
    before = snapshot()
    assert f'value="{name}"' not in client.get(admin_url("job_changelist")).content.decode()
    post_action(client, "job", name, job)
    assert snapshot() == before
    post_action(sign_in("view_job", permission), "job", name, job)
    assert snapshot() != before


def test_actions_require_csrf_token(sign_in: SignIn) -> None:
    job = make_job()
    client = sign_in("view_job", "run_job", csrf=True)
    assert post_action(client, "job", "run_now", job).status_code == 403
    assert not JobState.objects.exists()


# --- raw commands ---


def test_raw_command_cannot_be_posted_without_permission(sign_in: SignIn, settings: Any) -> None:
    settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
    client = sign_in("view_job", "add_job", "change_job")
    assert 'name="raw_command"' not in client.get(admin_url("job_add")).content.decode()
    smuggled = client.post(admin_url("job_add"), {**JOB_FORM, "raw_command": "/bin/sh"})
    assert smuggled.status_code == 302
    job = Job.objects.get()
    assert (job.command, job.raw_command) == ("noop", "")
    client.post(admin_url("job_change", job), {**JOB_FORM, "command": "", "raw_command": "/bin/sh"})
    job.refresh_from_db()
    assert (job.command, job.raw_command) == ("noop", "")


def test_without_raw_permission_a_job_without_command_is_rejected(
    sign_in: SignIn, settings: Any
) -> None:
    settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
    form = {**JOB_FORM, "command": "", "raw_command": "/bin/sh"}
    answer = sign_in("add_job").post(admin_url("job_add"), form)
    assert answer.status_code == 200
    assert "Enter a command, a task or a raw command" in answer.content.decode()
    assert not Job.objects.exists()


def test_without_raw_permission_a_raw_job_is_read_only(sign_in: SignIn, settings: Any) -> None:
    settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
    job = make_job(raw_command="/usr/bin/backup", enabled=False)
    client = sign_in("view_job", "change_job", "delete_job")
    page = client.get(admin_url("job_change", job)).content.decode()
    assert "/usr/bin/backup" in page
    assert 'name="_save"' not in page
    before = snapshot()
    assert client.post(admin_url("job_change", job), JOB_FORM).status_code == 403
    assert client.post(admin_url("job_delete", job), {"post": "yes"}).status_code == 403
    post_action(client, "job", "enable", job)
    answer = client.post(
        admin_url("job_changelist"),
        {"action": "delete_selected", "_selected_action": [job.pk], "post": "yes"},
    )
    assert answer.status_code == 403
    assert snapshot() == before


def test_with_raw_permission_raw_commands_can_be_edited(sign_in: SignIn, settings: Any) -> None:
    client = sign_in("view_job", "add_job", "change_job", "raw_job")
    form = {**JOB_FORM, "command": "", "raw_command": "/bin/true"}
    refused = client.post(admin_url("job_add"), form)
    assert "CHRONIKER_ALLOW_RAW_COMMANDS" in refused.content.decode()
    settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
    assert client.post(admin_url("job_add"), form).status_code == 302
    job = Job.objects.get()
    assert client.post(admin_url("job_change", job), {**form, "name": "b"}).status_code == 302
    post_action(client, "job", "disable", job)
    job.refresh_from_db()
    assert (job.name, job.raw_command, job.enabled) == ("b", "/bin/true", False)


# --- what no user may do ---


def test_state_and_history_are_read_only(root: Client) -> None:
    run = make_run(make_job())
    before = snapshot()
    assert root.get("/admin/chroniker/run/add/").status_code == 403
    assert root.post("/admin/chroniker/run/add/", {"job": run.job_id}).status_code == 403
    assert root.post(admin_url("run_change", run), {"status": "failed"}).status_code == 403
    assert root.get("/admin/chroniker/host/add/").status_code == 403
    assert root.get("/admin/chroniker/jobstate/").status_code == 404
    assert root.get("/admin/chroniker/outputchunk/").status_code == 404
    assert snapshot() == before


def test_subscribers_are_shown_only_with_view_user(sign_in: SignIn) -> None:
    assert 'name="subscribers"' not in page_of(sign_in("add_job"))
    assert 'name="subscribers"' in page_of(sign_in("add_job", "view_user"))


def page_of(client: Client) -> str:
    return client.get(admin_url("job_add")).content.decode()


def test_runs_are_shown_on_the_job_only_with_view_run(sign_in: SignIn) -> None:
    job = make_job()
    run = make_run(job)
    link = admin_url("run_change", run)
    for name in ("job_page", "job_page_live"):
        url = admin_url(name, job)
        assert link not in sign_in("view_job").get(url).content.decode()
        assert link in sign_in("view_job", "view_run").get(url).content.decode()


# --- output ---


@pytest.mark.one_database
def test_no_url_shows_output_without_its_permission(sign_in: SignIn) -> None:
    """An auditor may view everything that Chroniker has, but not what runs have written."""
    job = make_job(schedule="@daily")
    failed = make_run(job, status="failed", error="the error")
    running = make_running(make_job()).current_run
    assert running is not None
    for run in (failed, running):
        make_output(run, ("stdout", "a secret\n"), ("stderr", "a secret\n"), ("log", "a secret\n"))
    incident = make_incident(job, first_run=failed, last_run=failed)
    models = ("job", "run", "host", "incident", "notification", "maintenance", "digest")
    auditor = sign_in(*(f"view_{model}" for model in models))
    urls = [admin_url(f"{model}_changelist") for model in models]
    urls += [admin_url(name, job) for name in ("job_page", "job_page_live", "job_change")]
    urls += [admin_url(name) for name in ("job_overview", "job_overview_live", "job_calendar")]
    urls += [admin_url("incident_change", incident), admin_url("job_history", job)]
    for run in (failed, running):
        page = admin_url("run_change", run)
        urls += [page, f"{page}?q=secret", f"{page}?after=0", f"{page}?before=99999"]
        urls += [admin_url("run_live", run), admin_url("run_history", run)]
    for url in urls:
        answer = auditor.get(url)
        assert answer.status_code == 200, url
        assert "a secret" not in answer.content.decode(), url
    assert "the error" in auditor.get(admin_url("run_change", failed)).content.decode()
    for run in (failed, running):
        for name in OUTPUT_PAGES:
            assert auditor.get(admin_url(name, run)).status_code == 403
    reader = sign_in("view_run", "view_output")
    assert "a secret" in reader.get(admin_url("run_change", failed)).content.decode()
    assert "a secret" in reader.get(admin_url("run_tail", running)).content.decode()
    assert sign_in("view_output").get(admin_url("run_tail", failed)).status_code == 403


@pytest.mark.one_database
def test_an_auditor_changes_nothing(sign_in: SignIn) -> None:
    job = make_job(schedule="@daily")
    run = make_running(job).current_run
    incident = make_incident(job)
    models = ("job", "run", "host", "incident", "notification", "maintenance", "digest")
    auditor = sign_in(*(f"view_{model}" for model in models), "view_output")
    before = snapshot()
    posts = [
        (admin_url("job_run", job), {}), (admin_url("job_run", job), {"args": "x"}),
        (admin_url("job_stop", job), {}), (admin_url("run_stop", run), {}),
        (admin_url("incident_acknowledge", incident), {"note": "x"}),
        (admin_url("job_change", job), {**JOB_FORM, "_run": "1"}),
        (admin_url("job_add"), JOB_FORM),
    ]  # fmt: skip
    for url, data in posts:
        assert auditor.post(url, data).status_code == 403, url
    for page in ("job_page", "job_change"):
        text = auditor.get(admin_url(page, job)).content.decode()
        assert "Run now" not in text
        assert "Duplicate" not in text
        assert 'name="_save"' not in text
    assert snapshot() == before


# --- other arguments ---


def test_arguments_of_one_run_need_the_permission_to_edit(sign_in: SignIn) -> None:
    """Who may only run a job must not choose what it does."""
    job = make_job(command="act", args="say hello")
    url = admin_url("job_run", job)
    assert sign_in("view_job", "run_job").post(url, {"args": "say bye"}).status_code == 403
    assert not JobState.objects.exists()
    assert (
        "Run once"
        not in sign_in("view_job", "run_job").get(admin_url("job_page", job)).content.decode()
    )
    answer = sign_in("view_job", "run_job", "change_job").post(url, {"args": "say bye"})
    assert answer.status_code == 302
    assert JobState.objects.get().run_requested_args == "say bye"


@pytest.mark.one_database
def test_a_raw_job_is_not_run_with_other_arguments_without_its_permission(
    sign_in: SignIn, settings: Any
) -> None:
    settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
    job = make_job(raw_command="/bin/echo")
    url = admin_url("job_run", job)
    editor = sign_in("view_job", "run_job", "change_job", "add_job")
    assert editor.post(url, {"args": "x"}).status_code == 403
    assert "/bin/echo" not in editor.get(admin_url("job_add"), {"copy": job.pk}).content.decode()


# --- redirects ---


@pytest.mark.one_database
@pytest.mark.parametrize("key", ["next", "_redirect", "url", "return_to"])
def test_buttons_redirect_only_to_their_own_page(
    root: Client, rows: dict[str, Any], key: str
) -> None:
    evil = {key: "//evil.example/"}
    for name, row, _permissions in ALL_POSTS:
        url = f"{admin_url(name, rows[row])}?{key}=//evil.example"
        answer = root.post(url, evil)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/admin/chroniker/"), name
