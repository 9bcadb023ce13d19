"""The page of a job, its buttons, and the live updates of the list."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.timezone import now as utc_now

from chroniker.models import Host, Job, JobDependency, JobState
from tests.factories import make_incident, make_job, make_job_state, make_run, make_running
from tests.support.admin import JOB_FORM, admin_url, messages_of, visible_text

pytestmark = pytest.mark.django_db

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e{{ 7|add:7 }}"


def page(client: Client, job: Job) -> str:
    answer = client.get(admin_url("job_page", job))
    assert answer.status_code == 200
    return answer.content.decode()


def test_page_answers_what_the_job_does_and_why(root: Client) -> None:
    Host.objects.create(name="web1", last_tick_at=utc_now())
    job = make_job(
        name="import", schedule="0 9 * * *", timezone="Asia/Tokyo", timeout_seconds=90,
        runbook_url="https://wiki.example/import", description="Imports sales.",
    )  # fmt: skip
    runs = [make_run(job, duration_seconds=5.0) for _ in range(3)]
    make_run(job, status="failed", duration_seconds=1.0)
    make_running(job, consecutive_failures=1, parts_done=1, parts_total=4)
    incident = make_incident(job, summary="boom")
    answer = root.get(admin_url("job_page", job))
    text = visible_text(answer)
    for words in (
        "failing", "1 failure; running: on web1", "1 of 4 (25 %)", "At 09:00", "90 s",
        "Imports sales.", "Open incident:", "boom", "5 runs: 3 succeeded, 1 running, 1 failed",
        "× marks a failure",
    ):  # fmt: skip
        assert words in text, words
    html = answer.content.decode()
    assert 'href="https://wiki.example/import"' in html
    assert admin_url("incident_change", incident) in html
    assert html.count('<rect class="chroniker-bar-succeeded"') == 3
    assert html.count('class="chroniker-fail-mark"') == 1
    assert html.count(admin_url("run_change", runs[0])) == 2  # the chart and the table
    assert "onclick" not in html and "style=" not in html and "<script>" not in html


def test_dependencies_are_drawn_with_the_critical_path(root: Client) -> None:
    load, report, mail = make_job(name="load"), make_job(name="report"), make_job(name="mail")
    JobDependency.objects.create(downstream=report, upstream=load)
    JobDependency.objects.create(downstream=mail, upstream=report)
    make_run(load, duration_seconds=60.0)
    make_run(report, duration_seconds=5.0)
    text = page(root, report)
    assert "Critical path: load → report" in text
    for job in (load, mail):
        assert f'href="{admin_url("job_page", job)}"' in text
    assert text.count('class="chroniker-arrow') == 2
    assert "chroniker-arrow" not in page(root, make_job())


def test_page_and_updates_make_at_most_ten_queries(root: Client) -> None:
    first = make_job(schedule="@daily", hostname="*")
    for number in range(12):
        other = make_job(name=f"upstream {number}")
        make_run(other)
        JobDependency.objects.create(downstream=first, upstream=other)
    for host in ("web1", "web2"):
        make_running(first, host=host, parts_done=1, parts_total=3)
    for _ in range(60):
        make_run(first)
    make_incident(first)
    page(root, first)
    for name in ("job_page", "job_page_live"):
        with CaptureQueriesContext(connection) as queries:
            assert root.get(admin_url(name, first)).status_code == 200
        assert len(queries) <= 10, [query["sql"][:90] for query in queries]


def test_updates_of_the_page(root: Client) -> None:
    state = make_running(make_job(), parts_done=1, parts_total=4)
    url = admin_url("job_page_live", state.job)
    first = root.get(url)
    content = first.json()
    assert set(content["fragments"]) == {"state", "incidents", "charts", "runs"}
    assert (content["flags"], content["active"]) == ({"running": True}, True)
    headers = {"If-None-Match": first["ETag"]}
    assert root.get(url, headers=headers).status_code == 304
    JobState.objects.filter(pk=state.pk).update(lease_token=None, current_run=None)
    content = root.get(url, headers=headers).json()
    assert (content["flags"], content["active"]) == ({"running": False}, False)


def test_empty_page_says_what_to_do(root: Client) -> None:
    text = visible_text(root.get(admin_url("job_page", make_job())))
    assert "No runs yet. Select “Run now” to request one." in text
    assert "No run has ended yet." in text


def test_hostile_text_stays_text(root: Client) -> None:
    job = make_job(name=HOSTILE, args=HOSTILE, description=HOSTILE)
    make_running(job, lease_host=HOSTILE, last_error=HOSTILE, consecutive_failures=1)
    make_run(job, status="failed", error=HOSTILE, ran_on=HOSTILE)
    make_incident(job, summary=HOSTILE, note=HOSTILE)
    other = make_job(name="other " + HOSTILE)
    JobDependency.objects.create(downstream=job, upstream=other)
    urls = [admin_url("job_page", job), admin_url("job_overview"), admin_url("job_changelist"),
            admin_url("job_calendar"), admin_url("run_changelist")]  # fmt: skip
    for url in urls:
        text = root.get(url).content.decode()
        assert "<img src=x" not in text, url
        assert "{{" in text or url.endswith("calendar/"), url
    for url in (
        admin_url("job_page_live", job), admin_url("job_overview_live"),
        f"{admin_url('job_live')}?ids={job.pk}",
    ):  # fmt: skip
        for html in root.get(url).json()["fragments"].values():
            assert "<img" not in html and "</script" not in html


# --- the rows of the list ---


def test_rows_are_updated_in_three_queries_for_100_jobs(root: Client) -> None:
    jobs = [make_job(schedule="@daily") for _ in range(100)]
    for job in jobs:
        make_run(job, status="failed")
        make_job_state(job, last_status="failed", consecutive_failures=1)
    url = f"{admin_url('job_live')}?ids=" + ",".join(str(job.pk) for job in jobs)
    root.get(url)
    with CaptureQueriesContext(connection) as queries:
        answer = root.get(url)
    asked = [q["sql"] for q in queries if "session" not in q["sql"] and "auth_user" not in q["sql"]]
    hosts = [sql for sql in asked if "UNION" in sql]
    assert len(hosts) == 1
    assert len(asked) - len(hosts) <= 3, asked
    fragments = answer.json()["fragments"]
    assert len(fragments) == 400
    assert "failing" in fragments[f"job-{jobs[0].pk}-state"]
    headers = {"If-None-Match": answer["ETag"]}
    assert root.get(url, headers=headers).status_code == 304
    JobState.objects.filter(job=jobs[7]).update(consecutive_failures=0)
    assert root.get(url, headers=headers).status_code == 200


def test_rows_in_the_page_have_the_names_of_the_updates(root: Client) -> None:
    job = make_job()
    make_running(job)
    text = root.get(admin_url("job_changelist")).content.decode()
    update = root.get(admin_url("job_live"), {"ids": str(job.pk)}).json()
    for name in update["fragments"]:
        assert f'data-live="{name}"' in text
    assert f'data-live-row="{job.pk}"' in text
    assert f'data-url="{admin_url("job_live")}"' in text
    assert update["active"] is True


@pytest.mark.parametrize("ids", ["", "x", "1,,2", "-1", "1e3", "²", ",".join("1" * 201), "9" * 30])
def test_impossible_rows_are_refused(root: Client, ids: str) -> None:
    assert root.get(admin_url("job_live"), {"ids": ids}).status_code == 400


def test_strip_shows_the_last_twenty_runs_of_each_job(root: Client) -> None:
    one, two = make_job(), make_job()
    for number in range(25):
        make_run(one, status="failed" if number < 5 else "succeeded")
    make_run(two, status="lost")
    fragments = root.get(admin_url("job_live"), {"ids": f"{one.pk},{two.pk}"}).json()["fragments"]
    assert 'aria-label="20 succeeded"' in fragments[f"job-{one.pk}-outcomes"]
    assert 'aria-label="1 lost"' in fragments[f"job-{two.pk}-outcomes"]


def test_list_leads_to_the_page(root: Client) -> None:
    job = make_job()
    text = root.get(admin_url("job_changelist")).content.decode()
    assert f'<a href="{admin_url("job_page", job)}">' in text


# --- buttons ---


def test_save_and_run_now_keeps_the_edit(root: Client) -> None:
    job = make_job(name="before")
    text = root.get(admin_url("job_change", job)).content.decode()
    assert 'form="job_form" name="_run"' in text
    assert f'action="{admin_url("job_run", job)}"' not in text  # which would lose the edit
    form = {**JOB_FORM, "name": "after", "_run": "1"}
    answer = root.post(admin_url("job_change", job), form, follow=True)
    assert answer.redirect_chain[-1][0] == admin_url("job_page", job)
    assert messages_of(answer)[0] == "The job was saved."
    assert Job.objects.get().name == "after"
    assert JobState.objects.get().run_requested_at is not None
    JobState.objects.all().delete()
    refused = root.post(admin_url("job_change", job), {**form, "schedule": "61 * * * *"})
    assert refused.status_code == 200
    assert not JobState.objects.exists()


def test_run_once_checks_the_arguments(root: Client) -> None:
    job = make_job(command="act", args="say hello")
    for args, words in (("--nonsense", "does not accept"), ('"open', "Close each quote")):
        answer = root.post(admin_url("job_run", job), {"args": args}, follow=True)
        assert words in messages_of(answer)[0]
    assert not JobState.objects.exists()
    root.post(admin_url("job_run", job), {"args": "say bye"})
    assert JobState.objects.get().run_requested_args == "say bye"
    job.refresh_from_db()
    assert job.args == "say hello"


def test_duplicate_starts_with_all_values_and_dependencies(root: Client) -> None:
    upstream = make_job(name="upstream")
    job = make_job(
        name="x" * 200, schedule="@daily", args="--verbosity 1", max_retries=3, priority=7
    )
    JobDependency.objects.create(downstream=job, upstream=upstream, wait_for_next_run=True)
    url = f"{admin_url('job_add')}?copy={job.pk}"
    answer = root.get(url)
    form = answer.context["adminform"].form
    assert form.initial["name"] == "x" * 193 + " (copy)"
    assert not form.initial["enabled"]
    data: dict[str, Any] = {
        name: value
        for name, value in form.initial.items()
        if value is not None and value is not False and value != []
    }
    data |= {
        "dependencies-TOTAL_FORMS": "1", "dependencies-INITIAL_FORMS": "0",
        "dependencies-0-upstream": str(upstream.pk), "dependencies-0-wait_for_completion": "on",
        "dependencies-0-wait_for_success": "on", "dependencies-0-wait_for_next_run": "on",
    }  # fmt: skip
    assert str(upstream) in answer.content.decode()
    saved = root.post(url, data)
    assert saved.status_code == 302, saved.context["errors"]
    copy = Job.objects.get(name__endswith="(copy)")
    assert (copy.schedule, copy.args, copy.max_retries, copy.priority, copy.enabled) == (
        "@daily", "--verbosity 1", 3, 7, False,
    )  # fmt: skip
    edge = copy.dependencies.get()
    assert (edge.upstream, edge.wait_for_next_run) == (upstream, True)
    assert job.dependencies.count() == 1


def test_saving_warns_about_a_host_that_never_ticked(root: Client) -> None:
    Host.objects.create(name="web1", last_tick_at=utc_now())
    form = {**JOB_FORM, "hostname": "wbe1"}
    answer = root.post(admin_url("job_add"), form, follow=True)
    assert any("Host wbe1 has never ticked" in text for text in messages_of(answer))
    answer = root.post(admin_url("job_add"), {**form, "name": "b", "hostname": "web1"}, follow=True)
    assert not any("never ticked" in text for text in messages_of(answer))
    assert '<option value="web1">' in root.get(admin_url("job_add")).content.decode()


def test_help_of_a_command(root: Client) -> None:
    def ask(command: str) -> dict[str, str]:
        answer = root.get(reverse("admin:chroniker_job_command_help"), {"command": command})
        result: dict[str, str] = answer.json()
        return result

    assert "Can be run as a cronjob" in ask("clearsessions")["help"]
    assert "may not run" in ask("dbshell")["error"]
    assert "no management command" in ask("<script>")["error"]
