"""Declarations in the admin: where jobs come from, what was edited, and leaving them alone."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

from chroniker.models import Declaration, Job
from tests.support.admin import admin_url, visible_text
from tests.support.types import SignIn

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

JOBS = """\
jobs:
  fetch: {command: noop, schedule: "@daily", team: shop}
monitors:
  Memory: {kind: memory, warning: 90}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "jobs.yml"
    file.write_text(JOBS)
    call_command("chroniker_jobs", "apply", str(file), stdout=StringIO())
    return file


def test_list_names_jobs_and_sources(root: Client) -> None:
    assert "No declarations." in visible_text(root.get(admin_url("declaration_changelist")))


def test_page_shows_what_was_edited(file: Path, root: Client) -> None:
    text = visible_text(root.get(admin_url("declaration_changelist")))
    assert "fetch" in text and "Memory" in text and "jobs.yml" in text
    row = Declaration.objects.get(job__name="fetch")
    assert "Edited since then: nothing" in visible_text(
        root.get(admin_url("declaration_change", row))
    )
    Job.objects.filter(name="fetch").update(schedule="@hourly")
    text = visible_text(root.get(admin_url("declaration_change", row)))
    assert "schedule: &quot;@daily&quot; → &quot;@hourly&quot;" in text
    assert "&quot;team&quot;: &quot;shop&quot;" in text
    monitor = Declaration.objects.get(job__name="Memory")
    monitor.job.probe.warning = 95  # type: ignore[attr-defined]
    monitor.job.probe.save()  # type: ignore[attr-defined]
    text = visible_text(root.get(admin_url("declaration_change", monitor)))
    assert "warning: 90.0 → 95.0" in text


def test_jobs_page_names_the_source(file: Path, root: Client, sign_in: SignIn) -> None:
    job = Job.objects.get(name="fetch")
    assert "declared in jobs.yml" in visible_text(root.get(admin_url("job_page", job)))
    link = admin_url("declaration_change", Declaration.objects.get(job=job))
    assert link in root.get(admin_url("job_page", job)).content.decode()
    assert link not in sign_in("view_job").get(admin_url("job_page", job)).content.decode()
    Declaration.objects.all().delete()
    assert "declared in" not in visible_text(root.get(admin_url("job_page", job)))


def test_job_is_deleted_with_its_declaration(file: Path, sign_in: SignIn) -> None:
    job = Job.objects.get(name="fetch")
    client = sign_in("view_job", "delete_job")
    assert client.post(admin_url("job_delete", job), {"post": "yes"}).status_code == 302
    assert not Job.objects.filter(pk=job.pk).exists()


def test_deleted_declaration_leaves_the_job(file: Path, root: Client) -> None:
    row = Declaration.objects.get(job__name="fetch")
    assert root.post(admin_url("declaration_delete", row), {"post": "yes"}).status_code == 302
    assert Job.objects.filter(name="fetch").exists()
    assert not Declaration.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("permission", ["view_declaration", "delete_declaration"])
def test_permissions(permission: str, file: Path, sign_in: SignIn) -> None:
    row = Declaration.objects.get(job__name="fetch")
    client = sign_in(permission)
    seen = client.get(admin_url("declaration_changelist")).status_code == 200
    assert seen == (permission == "view_declaration")
    done = client.post(admin_url("declaration_delete", row), {"post": "yes"}).status_code == 302
    assert done == (permission == "delete_declaration")


def test_nobody_edits_a_declaration(file: Path, root: Client) -> None:
    row = Declaration.objects.get(job__name="fetch")
    assert root.get(admin_url("declaration_add")).status_code == 403
    assert root.post(admin_url("declaration_change", row), {"source": "x"}).status_code == 403
