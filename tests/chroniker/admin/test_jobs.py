"""The list and the form of jobs, and the requests of the buttons."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from chroniker.admin.actions import request_runs, set_enabled
from chroniker.enums import RunStatus
from chroniker.models import Host, Job, JobDependency, JobState, OutputChunk, Run
from tests.factories import make_job, make_output, make_run, make_running, minutes_from_now
from tests.support.admin import JOB_FORM, admin_url, post_action
from tests.support.types import SignIn

pytestmark = pytest.mark.django_db

LIST = "/admin/chroniker/job/"
HOSTILE = "<script>alert(1)</script>\"'&{{ 7|add:7 }}"


def job_row(client: Client, job: Job, **query: str) -> str:
    """The row of the job in the list, without tags."""
    page = client.get(LIST, query).content.decode()
    rows = [
        row
        for row in re.findall(r"<tr>.*?</tr>", page, re.S)
        if f'/chroniker/job/{job.pk}/"' in row
    ]
    assert len(rows) == 1
    return " ".join(re.sub(r"<[^>]+>", " ", rows[0]).split())


# --- the list ---


def test_list_shows_running_jobs_and_progress(root: Client) -> None:
    job = make_job(schedule="@daily")
    make_running(job, parts_done=13_000, parts_total=50_000)
    row = job_row(root, job)
    assert "running" in row
    assert "on web1" in row
    assert "13,000 of 50,000 (26 %)" in row


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [(9, 3, "(100 %)"), (-5, 10, "(0 %)"), (7, 0, "7"), (0, 10, "(0 %)")],
)
def test_impossible_progress_is_not_an_error(
    root: Client, done: int, total: int, shown: str
) -> None:
    job = make_job()
    make_running(job, parts_done=done, parts_total=total)
    assert shown in job_row(root, job)


def test_progress_is_summed_over_hosts(root: Client) -> None:
    job = make_job(hostname="*")
    for number, host in enumerate(("web1", "web2"), 1):
        make_running(job, host=host, lease_host=host, parts_done=number, parts_total=10)
    row = job_row(root, job)
    assert "3 of 20" in row
    assert "on web1, web2" in row


def test_list_shows_blocked_reason(root: Client) -> None:
    Host.objects.create(name="web1", last_tick_at=minutes_from_now(0))
    blocked = make_job(schedule="@daily")
    JobState.objects.create(
        job=blocked,
        next_run_at=minutes_from_now(-1),
        blocked_reason="dependency",
        blocked_detail="A is running",
    )
    disabled = make_job(schedule="@daily", enabled=False)
    due = make_job(schedule="@daily")
    JobState.objects.create(job=due, next_run_at=minutes_from_now(-1))
    waiting = make_job(schedule="@daily")
    JobState.objects.create(
        job=waiting, next_run_at=minutes_from_now(60), retry_at=minutes_from_now(1)
    )
    by_hand = make_job()
    asked = make_job(enabled=False)
    JobState.objects.create(job=asked, run_requested_at=minutes_from_now(0))
    assert "blocked A is running" in job_row(root, blocked)
    assert "disabled" in job_row(root, disabled)
    assert "due" in job_row(root, due)
    assert "waiting for retry" in job_row(root, waiting)
    assert "manual" in job_row(root, by_hand)
    assert "due A run is requested" in job_row(root, asked)


def test_list_shows_last_and_next_run_in_the_zone_of_the_job(root: Client) -> None:
    job = make_job(schedule="0 9 * * *", timezone="Asia/Tokyo")
    run = make_run(job, status=RunStatus.FAILED)
    JobState.objects.create(
        job=job,
        last_run=run,
        last_status=run.status,
        last_ended_at=run.ended_at,
        last_duration_seconds=187.4,
        consecutive_failures=3,
        next_run_at="2031-03-01T00:00:00Z",
    )
    row = job_row(root, job)
    for text in (
        "failed",
        "3 min 07 s",
        "3 consecutive failures",
        "2031-03-01 09:00:00 JST",
        "09:00",
    ):
        assert text in row
    assert admin_url("run_change", run) in root.get(LIST).content.decode()


@pytest.mark.parametrize(
    ("schedule", "zone"),
    [
        ("61 * * * *", "UTC"),
        ("nonsense <script>alert(1)</script>", "UTC"),
        ("0 0 31 2 *", "UTC"),
        ("R R * * *", "UTC"),
        ("@reboot", "UTC"),
        ("RRULE:FREQ=NEVER", "UTC"),
        ("@every -5m", "UTC"),
        ("\x01", "UTC"),
        ("@daily", "Mars/Olympus"),
        ("@daily", "../../etc/passwd"),
        ("@daily", ""),
        ("@daily", "Europe"),
    ],
)
def test_invalid_row_is_shown_on_every_page(root: Client, schedule: str, zone: str) -> None:
    job = make_job()
    Job.objects.filter(pk=job.pk).update(schedule=schedule, timezone=zone)
    JobState.objects.create(job=job, next_run_at=minutes_from_now(3))
    make_run(job)
    row = job_row(root, job)
    assert "invalid schedule" in row
    assert "Invalid schedule:" in row
    page = root.get(admin_url("job_change", job))
    assert page.status_code == 200
    assert "<script>alert" not in page.content.decode()
    assert root.get("/admin/chroniker/run/").status_code == 200
    assert post_action(root, "job", "run_now", job, follow=False).status_code == 302


def test_hostile_texts_are_escaped(root: Client) -> None:
    job = make_job(name=HOSTILE, description=HOSTILE, args=HOSTILE, schedule="@daily")
    state = make_running(job, host="", lease_host=HOSTILE, blocked_detail=HOSTILE)
    JobState.objects.filter(pk=state.pk).update(last_error=HOSTILE, last_status="failed")
    JobState.objects.create(
        job=make_job(schedule="@daily"), blocked_reason="host", blocked_detail=HOSTILE
    )
    run = make_run(job, status=RunStatus.FAILED, error=HOSTILE, ran_on=HOSTILE)
    Host.objects.create(name=HOSTILE, version=HOSTILE)
    make_job(command=HOSTILE, hostname=HOSTILE)
    make_output(run, ("stdout", HOSTILE))
    pages = [
        LIST, admin_url("job_change", job), admin_url("job_history", job),
        admin_url("job_delete", job),
        "/admin/chroniker/run/", admin_url("run_change", run), admin_url("run_delete", run),
        "/admin/chroniker/host/", "/admin/",
    ]  # fmt: skip
    post_action(root, "job", "run_now", job)
    for url in pages:
        page = root.get(url).content.decode()
        assert "<script>alert" not in page, url
    assert escape(HOSTILE) in root.get(LIST).content.decode()
    assert escape(HOSTILE) in root.get(admin_url("run_change", run)).content.decode()


def test_job_list_query_count_is_the_same_for_60_jobs_and_3(
    root: Client, django_assert_num_queries: Any
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def fill(number: int) -> None:
        for index in range(number):
            job = make_job(schedule="*/5 * * * *", hostname="*" if index % 3 == 0 else "")
            for host in ("web1", "web2") if job.every_host else ("",):
                make_running(job, host=host, parts_done=1, parts_total=3, last_status="failed")

    fill(3)
    root.get(LIST)  # content types are cached from here on
    with CaptureQueriesContext(
        connection,
    ) as few:
        root.get(LIST)
    fill(57)
    with CaptureQueriesContext(connection) as many:
        assert root.get(LIST).content.decode().count("chroniker-running") == 60
    assert len(many) == len(few) <= 12


def test_filters_and_search(root: Client) -> None:
    running = make_job(name="alpha", args="--needle")
    make_running(running)
    failed = make_job(name="beta", command="clearsessions", hostname="*")
    for host in ("web1", "web2"):
        JobState.objects.create(
            job=failed, host=host, last_status="failed", consecutive_failures=1,
            next_run_at=minutes_from_now(-1), blocked_reason="dependency",
        )  # fmt: skip
    raw = make_job(name="gamma", raw_command="/bin/true", enabled=False, hostname="web9")

    def found(query: str) -> set[str]:
        names = ("alpha", "beta", "gamma")
        answer = root.get(LIST + "?" + query)
        assert answer.status_code == 200, query
        result = list(answer.context["cl"].result_list)
        assert len(result) == len(set(result)), query  # once for any number of hosts
        assert {job.name for job in result} <= set(names)
        return {job.name for job in result}

    assert found("state=running") == {"alpha"}
    assert found("state=blocked") == {"beta"}
    assert found("state=due") == {"beta"}
    assert found("state=failing") == {"beta"}
    assert found("last_status=failed") == {"beta"}
    assert found("command=clearsessions") == {"beta"}
    assert found("command=-") == {raw.name}
    assert found("hostname=*") == {"beta"}
    assert found("hostname=-") == {"alpha"}
    assert found("hostname=web9") == {"gamma"}
    assert found("enabled__exact=0") == {"gamma"}
    assert found("q=needle") == {"alpha"}
    assert found("q=clearsess") == {"beta"}
    assert found("o=4.3") == {"alpha", "beta", "gamma"}
    assert found("_facets=True") == {"alpha", "beta", "gamma"}


# --- run, stop, enable, disable ---


def test_run_now_requests_once_and_is_logged(root: Client) -> None:
    job = make_job()
    state = JobState.objects.create(job=job)
    answer = root.post(admin_url("job_run", job), follow=True)
    assert "1 run requested" in answer.content.decode()
    state.refresh_from_db()
    first = state.run_requested_at
    assert first is not None
    assert state.run_requested_by == "manual"
    assert state.due_at == first
    again = root.post(admin_url("job_run", job), follow=True)
    assert "No new run requested" in again.content.decode()
    state.refresh_from_db()
    assert state.run_requested_at == first
    entry = LogEntry.objects.latest("pk")
    assert (entry.object_id, entry.change_message) == (str(job.pk), "Run now.")
    assert "Run now." in root.get(admin_url("job_history", job)).content.decode()


def test_job_without_state_can_be_requested(root: Client) -> None:
    Host.objects.create(name="web1")
    Host.objects.create(name="web2")
    once, everywhere = make_job(), make_job(hostname="*")
    JobState.objects.create(job=everywhere, host="web1")
    JobState.objects.create(
        job=everywhere, host=""
    )  # a placement from when the job ran on any host
    post_action(root, "job", "run_now", once, everywhere)
    asked = JobState.objects.filter(run_requested_at__isnull=False).values_list("job", "host")
    assert set(asked) == {(once.pk, ""), (everywhere.pk, "web1"), (everywhere.pk, "web2")}
    assert LogEntry.objects.filter(change_message="Run now.").count() == 2


def test_every_host_job_without_hosts_cannot_be_requested(root: Client) -> None:
    answer = root.post(admin_url("job_run", make_job(hostname="*")), follow=True)
    assert "no host has ticked yet" in answer.content.decode()
    assert not JobState.objects.exists()


def test_stop_requests_only_running_jobs(root: Client) -> None:
    running, idle = make_job(), make_job()
    state = make_running(running)
    quiet = JobState.objects.create(job=idle)
    post_action(root, "job", "stop", running, idle)
    state.refresh_from_db()
    quiet.refresh_from_db()
    assert state.stop_requested_at is not None
    assert quiet.stop_requested_at is None
    assert [e.object_id for e in LogEntry.objects.all()] == [str(running.pk)]
    answer = root.post(admin_url("job_stop", idle), follow=True)
    assert "Nothing to stop" in answer.content.decode()


def test_one_run_of_many_hosts_can_be_stopped(root: Client) -> None:
    job = make_job(hostname="*")
    one = make_running(job, host="web1", lease_host="web1")
    two = make_running(job, host="web2", lease_host="web2")
    root.post(admin_url("run_stop", one.current_run))
    one.refresh_from_db()
    two.refresh_from_db()
    assert one.stop_requested_at is not None
    assert two.stop_requested_at is None
    assert LogEntry.objects.count() == 2  # of the run and of the job


def test_enable_and_disable_change_only_one_field_and_reach_the_scheduler(
    root: Client,
) -> None:
    job = make_job(schedule="@daily")
    Job.objects.filter(pk=job.pk).update(planned_from=job.definition)
    post_action(root, "job", "enable", job)
    assert not LogEntry.objects.exists()
    post_action(root, "job", "disable", job)
    job = Job.objects.get()
    assert not job.enabled
    assert job.needs_planning
    assert LogEntry.objects.get().change_message == "Disabled."


def test_actions_work_in_batches(
    django_user_model: Any, django_assert_max_num_queries: Any
) -> None:
    user = django_user_model.objects.create(username="u")
    Job.objects.bulk_create(Job(name=f"n{i}", command="noop") for i in range(1100))
    jobs = list(Job.objects.all())
    JobState.objects.bulk_create(JobState(job=job) for job in jobs)
    with django_assert_max_num_queries(40):
        assert request_runs(jobs, user_id=user.pk) == 1100
        assert set_enabled(jobs, enabled=False, now=minutes_from_now(0), user_id=user.pk) == 1100
    assert LogEntry.objects.count() == 2200


# --- the form ---


def test_edit_keeps_scheduler_fields(root: Client) -> None:
    job = make_job(schedule="@daily")
    Job.objects.filter(pk=job.pk).update(planned_from=job.definition)
    make_running(job, runs_total=41, parts_done=3)
    before = JobState.objects.filter(job=job).values().get()
    form = {
        **JOB_FORM,
        "name": job.name,
        "schedule": "@hourly",
        "planned_from": "x",
        "runs_total": "0",
    }
    assert root.post(admin_url("job_change", job), form).status_code == 302
    job = Job.objects.get(pk=job.pk)
    assert job.schedule == "@hourly"
    assert job.needs_planning
    assert job.planned_from.split("|")[1] == "@daily"
    assert JobState.objects.filter(job=job).values().get() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "61 * * * *"}, "minute"),
        ({"schedule": "0 0 31 2 *"}, "never"),
        ({"timezone": "Mars/Olympus"}, "time zone"),
        ({"command": "no_such_command"}, "There is no management command"),
        ({"command": "dbshell"}, "may not run"),
        ({"args": 'an "open quote'}, "quote"),
        ({"args": "--no-such-option"}, "does not accept these arguments: unrecognized"),
        ({"command": "clearsessions", "args": "a b c"}, "does not accept these arguments"),
        ({"timeout_seconds": "60", "expected_seconds": "60"}, "must be longer than the expected"),
        ({"name": ""}, "required"),
    ],
)
def test_invalid_job_is_rejected_with_reason(
    root: Client, change: dict[str, str], message: str
) -> None:
    answer = root.post(admin_url("job_add"), {**JOB_FORM, **change})
    assert answer.status_code == 200
    assert message in answer.content.decode()
    assert not Job.objects.exists()


def test_job_with_both_commands_is_rejected(root: Client, settings: Any) -> None:
    settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
    answer = root.post(admin_url("job_add"), {**JOB_FORM, "raw_command": "/bin/true"})
    assert "only one of them" in answer.content.decode()


def test_ambiguous_schedule_gives_warning(root: Client) -> None:
    answer = root.post(admin_url("job_add"), {**JOB_FORM, "schedule": "0 9 13 * FRI"}, follow=True)
    assert Job.objects.get().schedule == "0 9 13 * FRI"
    assert any(message.level_tag == "warning" for message in answer.context["messages"])


def dependency(job: Job, *upstreams: Job) -> dict[str, Any]:
    form: dict[str, Any] = {
        **JOB_FORM,
        "name": job.name,
        "dependencies-TOTAL_FORMS": len(upstreams),
    }
    for index, upstream in enumerate(upstreams):
        form[f"dependencies-{index}-downstream"] = job.pk
        form[f"dependencies-{index}-upstream"] = upstream.pk
        form[f"dependencies-{index}-wait_for_completion"] = "on"
    return form


def test_dependencies_are_editable_and_cycles_rejected(root: Client) -> None:
    one, two, three = make_job(name="one"), make_job(name="two"), make_job(name="three")
    assert root.post(admin_url("job_change", one), dependency(one, two)).status_code == 302
    assert root.post(admin_url("job_change", two), dependency(two, three)).status_code == 302
    assert JobDependency.objects.count() == 2
    circle = root.post(admin_url("job_change", three), dependency(three, one))
    rotations = ("three → one → two → three", "one → two → three → one", "two → three → one → two")
    assert any(path in circle.content.decode() for path in rotations)
    itself = root.post(admin_url("job_change", three), dependency(three, three))
    assert itself.status_code == 200
    twice = root.post(admin_url("job_change", three), dependency(three, make_job(), make_job()))
    assert twice.status_code == 302
    assert JobDependency.objects.count() == 4


def test_duplicate_dependency_is_rejected(root: Client) -> None:
    one, two = make_job(), make_job()
    assert root.post(admin_url("job_change", one), dependency(one, two, two)).status_code == 200
    assert not JobDependency.objects.exists()


def test_job_page_shows_states_and_last_ten_runs(root: Client) -> None:
    job = make_job(hostname="*", schedule="@daily")
    for host in ("web1", "web2"):
        JobState.objects.create(job=job, host=host, runs_total=812, last_error=f"broke on {host}")
    JobState.objects.create(job=job, host="", last_error="of another time")
    runs = [make_run(job) for _ in range(12)]
    page = root.get(admin_url("job_page", job)).content.decode()
    for text in ("web1", "web2", "broke on web2", "812"):
        assert text in page
    assert "of another time" not in page
    table = page.partition('id="chroniker-runs"')[2]
    shown = [admin_url("run_change", run) in table for run in runs]
    assert shown == [False, False] + [True] * 10
    assert f"?job__id__exact={job.pk}" in page
    listed = root.get("/admin/chroniker/run/", {"job__id__exact": job.pk})
    assert listed.context["cl"].result_count == 12


def test_links_use_unformatted_ids(root: Client, settings: Any) -> None:
    settings.USE_THOUSAND_SEPARATOR = True
    settings.NUMBER_GROUPING = 3
    job = make_job(pk=1234567)
    run = make_run(job)
    page = root.get(admin_url("job_page", job)).content.decode()
    assert "?job__id__exact=1234567" in page
    assert admin_url("run_change", run) in page


def test_commands_and_zones_are_suggested(root: Client) -> None:
    page = root.get(admin_url("job_add")).content.decode()
    assert '<option value="clearsessions">' in page
    assert '<option value="dbshell">' not in page
    assert '<option value="Europe/Berlin">' in page


# --- the preview ---


def preview(client: Client, **query: str) -> dict[str, Any]:
    answer = client.get(reverse("admin:chroniker_job_preview"), query)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert "no-store" in answer["Cache-Control"]
    result: dict[str, Any] = answer.json()
    return result


def test_preview_shows_description_and_times_in_the_zone(sign_in: SignIn) -> None:
    client = sign_in("add_job")
    shown = preview(client, schedule="30 9 * * *", zone="Asia/Tokyo")
    assert "09:30" in shown["explain"]
    assert len(shown["times"]) == 5
    assert all(time.endswith("09:30:00 JST") for time in shown["times"])
    assert shown["warnings"] == []
    assert preview(client, schedule="0 9 13 * FRI", zone="UTC")["warnings"]


def test_preview_resolves_hashes_by_the_name(sign_in: SignIn) -> None:
    client = sign_in("change_job")
    shown = {
        preview(client, schedule="H H * * *", zone="UTC", name=name)["times"][0]
        for name in "abcdefgh"
    }
    assert len(shown) > 1


@pytest.mark.parametrize(
    ("schedule", "zone"),
    [
        ("61 * * * *", "UTC"), ("@daily", "Mars/Olympus"), ("@daily", ""), ("x" * 5000, "UTC"),
        ("0 0 31 2 *", "UTC"), ("\x00", "UTC"), ("@daily", "/etc/passwd"), ("@daily", "\x00"),
        ("@daily", "x" * 5000),
    ],
)  # fmt: skip
def test_preview_shows_the_error(sign_in: SignIn, schedule: str, zone: str) -> None:
    shown = preview(sign_in("add_job"), schedule=schedule, zone=zone)
    assert list(shown) == ["error"]
    assert shown["error"]


def test_preview_of_empty_schedule_is_manual(sign_in: SignIn) -> None:
    shown = preview(sign_in("add_job"), schedule="", zone="UTC")
    assert shown["times"] == []
    assert shown["ends"] is False


# --- deletion ---


def test_deletion_counts_rows_instead_of_loading_them(
    root: Client, django_assert_max_num_queries: Any
) -> None:
    job = make_job()
    JobState.objects.create(job=job)
    for _ in range(5):
        make_output(make_run(job), ("stdout", "x" * 1000), ("stderr", "y"))
    page = root.get(admin_url("job_delete", job)).content.decode()
    assert "Runs: 5" in " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert root.post(admin_url("job_delete", job), {"post": "yes"}).status_code == 302
    assert not Job.objects.exists()
    assert not Run.objects.exists()
    assert not OutputChunk.objects.exists()


def test_running_job_is_not_deleted(root: Client) -> None:
    job = make_job()
    state = make_running(job)
    assert "stop it first" in root.get(admin_url("job_delete", job)).content.decode()
    root.post(admin_url("job_delete", job), {"post": "yes"})
    root.post(admin_url("run_delete", state.current_run), {"post": "yes"})
    for model, pk in (("job", job.pk), ("run", state.current_run_id)):
        data = {"action": "delete_selected", "_selected_action": [pk], "post": "yes"}
        root.post(f"/admin/chroniker/{model}/", data)
    assert Job.objects.count() == Run.objects.count() == 1


def test_deleting_a_job_with_runs_requires_delete_run(sign_in: SignIn) -> None:
    job = make_job()
    make_run(job)
    url = admin_url("job_delete", job)
    assert sign_in("view_job", "delete_job").post(url, {"post": "yes"}).status_code == 403
    client = sign_in("view_job", "delete_job", "delete_run")
    assert client.post(url, {"post": "yes"}).status_code == 302
    assert not Job.objects.exists()
