"""Monitors on the pages of jobs: they can be read and run there, and nothing else."""

from __future__ import annotations

import pytest
from django.test import Client

from chroniker.models import Job, JobState
from chroniker_monitors.models import Monitor, Probe
from tests.factories import make_job, make_monitor
from tests.support.admin import JOB_FORM, admin_url, monitor_admin_url, post_action, visible_text
from tests.support.types import AssertNumQueries, SignIn

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

EDITOR = ("view_job", "change_job", "add_job", "delete_job", "delete_run", "run_job")


@pytest.fixture
def editor(sign_in: SignIn) -> Client:
    """Somebody who may do everything with jobs, and nothing with monitors."""
    return sign_in(*EDITOR)


def test_editor_of_jobs_cannot_edit_or_delete_a_monitor(editor: Client) -> None:
    monitor = make_monitor(name="disk")
    form = editor.get(admin_url("job_change", monitor))
    assert b'name="_save"' not in form.content
    data = JOB_FORM | {"name": "taken over", "command": "noop"}
    assert editor.post(admin_url("job_change", monitor), data).status_code == 403
    assert editor.post(admin_url("job_delete", monitor), {"post": "yes"}).status_code == 403
    monitor.refresh_from_db()
    assert (monitor.name, Probe.objects.count()) == ("disk", 1)


def test_actions_of_the_list_leave_monitors_alone(editor: Client) -> None:
    monitor, job = make_monitor(name="disk"), make_job(name="plain")
    answer = post_action(editor, "job", "disable", Job.objects.get(pk=monitor.pk), job)
    assert "1 job was not changed" in visible_text(answer)
    assert Monitor.objects.get().enabled
    assert not Job.objects.get(pk=job.pk).enabled
    answer = post_action(editor, "job", "delete_selected", Job.objects.get(pk=monitor.pk), job)
    assert "disk (it is a monitor; delete it on its own page)" in visible_text(answer)
    assert Job.objects.count() == 2


def test_kinds_are_read_at_once(
    editor: Client, django_assert_max_num_queries: AssertNumQueries
) -> None:
    jobs = [*(make_job() for _ in range(30)), *(make_monitor() for _ in range(30))]
    keys = [Job.objects.get(pk=job.pk) for job in jobs]
    with django_assert_max_num_queries(30):
        post_action(editor, "job", "disable", *keys, follow=False)


def test_monitor_cannot_be_copied_or_run_with_other_arguments(editor: Client) -> None:
    monitor = make_monitor(name="disk")
    page = editor.get(admin_url("job_page", monitor)).content.decode()
    assert "?copy=" not in page and "Run once" not in page and "Run now" in page
    copied = editor.get(admin_url("job_add"), {"copy": monitor.pk})
    assert "disk (copy)" not in copied.content.decode()
    run_url = admin_url("job_run", monitor)
    assert editor.post(run_url, {"args": "--job-id 1"}).status_code == 403
    assert editor.post(run_url).status_code == 302
    assert JobState.objects.get(job=monitor).run_requested_args is None


def test_who_may_see_monitors_is_led_to_the_form_of_the_monitor(sign_in: SignIn) -> None:
    monitor = make_monitor(name="disk")
    reader = sign_in(*EDITOR, "view_monitor")
    page = reader.get(admin_url("job_page", monitor)).content.decode()
    assert f'href="{monitor_admin_url("change", monitor)}">Monitor</a>' in page
    answer = reader.get(admin_url("job_change", monitor))
    assert answer["Location"] == monitor_admin_url("change", monitor)


def test_monitors_are_still_edited_and_deleted_on_their_own_pages(sign_in: SignIn) -> None:
    monitor = make_monitor(name="disk")
    keeper = sign_in("view_monitor", "change_monitor", "delete_monitor", "delete_run")
    assert b'name="_save"' in keeper.get(monitor_admin_url("change", monitor)).content
    keeper.post(monitor_admin_url("delete", monitor), {"post": "yes"})
    assert not Job.objects.exists()
