"""What a job may run: a command, a task or a raw command."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from chroniker.models import Job
from tests.factories import make_job
from tests.support.tasks import TASKS, needs_tasks

pytestmark = pytest.mark.django_db

SAY = f"{TASKS}.say"


def errors(**fields: Any) -> dict[str, list[str]]:
    try:
        Job(name="a", **fields).full_clean()
    except ValidationError as error:
        return error.message_dict
    return {}


@needs_tasks
@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"task": SAY, "task_args": []}, "task_kwargs", "'text' of say() is missing"),
        ({"task": SAY, "task_args": ["a"], "args": "a"}, "args", "its own fields"),
        ({"task": SAY, "task_args": ["a"], "command": "noop"}, "task", "only one of them"),
        ({"task": SAY, "task_args": "a"}, "task_args", "Enter a list in JSON"),
        ({"task": f"{TASKS}.sey"}, "task", "Did you mean 'say'?"),
        ({"task": f"{TASKS}.no_task"}, "task", "is not a task"),
        ({"task": "os.system", "task_args": ["ls"]}, "task", "CHRONIKER_ALLOWED_TASKS"),
    ],
)
def test_task_that_could_not_be_called_is_rejected(
    fields: dict[str, Any], field: str, message: str
) -> None:
    found = errors(**fields)
    assert list(found) == [field]
    assert message in found[field][0]


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({}, "command", "Enter a command, a task or a raw command, and only one of them."),
        ({"command": "noop", "raw_command": "ls"}, "raw_command", "only one of them"),
        ({"command": "noop", "task_args": [1]}, "task_args", "for tasks only"),
        ({"command": "noop", "enqueue": True}, "enqueue", "for tasks only"),
    ],
)
def test_job_runs_one_thing(fields: dict[str, Any], field: str, message: str) -> None:
    found = errors(**fields)
    assert list(found) == [field]
    assert message in " ".join(found[field])


@pytest.mark.parametrize("fields", [{}, {"command": "noop", "task": "a.b"}])
def test_database_accepts_one_thing_only(fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.create(name="a", **fields)


@needs_tasks
def test_valid_task_survives_the_database() -> None:
    fields: dict[str, Any] = {
        "task": SAY,
        "task_args": ["ü", "\\u0000"],
        "task_kwargs": {"times": 2},
    }
    assert errors(**fields) == {}
    job = Job.objects.get(pk=make_job(**fields).pk)
    assert (job.task_args, job.task_kwargs) == (fields["task_args"], fields["task_kwargs"])
    assert job.work == f'{SAY}("ü", "\\\\u0000", times=2)'
    assert job.work_name == SAY


@pytest.mark.usefixtures("without_tasks")
def test_without_tasks_the_error_says_what_to_install() -> None:
    assert "Tasks need Django 6, or django-tasks on Django 5.2." in errors(task=SAY)["task"][0]
