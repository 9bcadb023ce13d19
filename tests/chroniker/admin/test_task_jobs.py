"""Jobs that run tasks, in the admin."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils.html import escape

from chroniker.models import Job, JobState
from tests.factories import make_job, make_run
from tests.support.admin import JOB_FORM, admin_url, messages_of, visible_text
from tests.support.tasks import TASKS, needs_tasks
from tests.support.types import SignIn

pytestmark = pytest.mark.django_db

SAY = f"{TASKS}.say"
TASK_FORM = JOB_FORM | {
    "command": "", "task": SAY, "task_args": '["hello"]', "task_kwargs": "", "raw_command": "",
}  # fmt: skip


@needs_tasks
def test_picker_lists_tasks_beside_commands_and_a_task_is_saved(root: Client) -> None:
    page = root.get(admin_url("job_add")).content.decode()
    assert f'<option value="{SAY}">' in page
    assert '<option value="noop">' in page
    root.post(admin_url("job_add"), TASK_FORM)
    job = Job.objects.get()
    assert (job.task, job.task_args, job.task_kwargs) == (SAY, ["hello"], {})
    form = root.get(admin_url("job_change", job)).context["adminform"].form
    assert form["task_args"].value() == '["hello"]'
    copied = root.get(admin_url("job_add"), {"copy": job.pk}).context["adminform"].form
    assert json.loads(copied["task_args"].value()) == ["hello"]


@needs_tasks
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_args": "[hello]"}, "Enter a valid JSON."),
        ({"task_args": "0"}, "Enter a list in JSON"),
        ({"task_args": ""}, "The argument 'text' of say() is missing. Add it."),
        ({"task_kwargs": '{"timez": 2}'}, "Did you mean 'times'?"),
        ({"task": f"{TASKS}.sey"}, "Did you mean 'say'?"),
        ({"command": "noop"}, "only one of them"),
        ({"task": "", "task_args": ""}, "Enter a command, a task or a raw command"),
        ({"enqueue": "on"}, "does not store results"),
    ],
)
def test_mistake_is_named_at_its_field(
    root: Client, change: dict[str, str], message: str, settings: Any
) -> None:
    settings.TASKS = settings.TASKS | {"default": settings.TASKS["dummy"]}
    answer = root.post(admin_url("job_add"), TASK_FORM | change)
    assert answer.status_code == 200
    assert escape(message) in str(answer.context["errors"])
    assert not Job.objects.exists()


@needs_tasks
def test_allowed_tasks_restrict_form_and_help(root: Client, settings: Any) -> None:
    settings.CHRONIKER_ALLOWED_TASKS = [f"{TASKS}.fail"]
    page = root.get(admin_url("job_add"))
    assert page.context["tasks"] == [f"{TASKS}.fail"]
    refused = root.post(admin_url("job_add"), TASK_FORM)
    assert "Add it to CHRONIKER_ALLOWED_TASKS" in refused.content.decode()
    answers = [root.get(admin_url("job_task_help"), {"task": f"{TASKS}.{name}"}).json()
               for name in ("fail", "say")]  # fmt: skip
    assert answers[0]["help"].startswith("fail(text")
    assert "CHRONIKER_ALLOWED_TASKS" in answers[1]["error"]


@needs_tasks
def test_only_editors_see_signatures_and_choose_arguments(sign_in: SignIn) -> None:
    job = make_job(task=SAY, task_args=["hello"])
    viewer = sign_in("view_job", "run_job")
    assert viewer.get(admin_url("job_task_help"), {"task": SAY}).status_code == 403
    chosen = {"task_args": '["bye"]', "task_kwargs": "{}"}
    assert viewer.post(admin_url("job_run", job), chosen).status_code == 403
    assert not JobState.objects.filter(run_requested_at__isnull=False).exists()


@needs_tasks
def test_page_shows_the_call_and_runs_once_with_other_arguments(root: Client) -> None:
    job = make_job(task=SAY, task_args=["hello"], task_kwargs={"times": 2})
    page = root.get(admin_url("job_page", job))
    assert f'{SAY}("hello", times=2)'.replace('"', "&quot;") in page.content.decode()
    run = admin_url("job_run", job)
    for chosen, words in (
        ({"task_args": "[", "task_kwargs": ""}, "not JSON"),
        ({"task_args": "{}", "task_kwargs": ""}, "must be a list"),
        ({"task_args": "", "task_kwargs": ""}, "'text' of say() is missing"),
    ):
        assert words in messages_of(root.post(run, chosen, follow=True))[0]
    root.post(run, {"task_args": '["bye"]', "task_kwargs": '{"times": 3}'})
    requested = JobState.objects.get().run_requested_args
    ended = make_run(job, args=requested)
    assert '"bye", times=3' in visible_text(root.get(admin_url("run_change", ended))).replace(
        "&quot;", '"'
    )


def test_list_shows_finds_and_filters_tasks(root: Client) -> None:
    make_job(name="alpha", task=SAY, task_args=["hello"])
    make_job(name="beta")
    for query in ({"q": "testapp.tasks"}, {"command": SAY}):
        page = visible_text(root.get(admin_url("job_changelist"), query))
        assert "alpha" in page and "beta" not in page
        assert SAY in page


@pytest.mark.usefixtures("without_tasks")
def test_form_has_no_tasks_where_none_can_exist(root: Client) -> None:
    assert "id_task" not in root.get(admin_url("job_add")).content.decode()
    assert root.post(admin_url("job_add"), JOB_FORM).status_code == 302
