"""Validation of jobs and their dependencies."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.utils.timezone import now as utc_now

from chroniker.models import Job, JobDependency
from tests.factories import make_job

pytestmark = pytest.mark.django_db(transaction=True)


def test_cycle_is_rejected_with_its_path() -> None:
    a, b, c = (make_job(name=name) for name in "abc")
    JobDependency.objects.create(downstream=a, upstream=b)
    JobDependency.objects.create(downstream=b, upstream=c)
    from django.core.exceptions import ValidationError

    with pytest.raises(ValidationError, match=r"(a → b → c → a)|(b → c → a → b)|(c → a → b → c)"):
        JobDependency(downstream=c, upstream=a).full_clean()


@pytest.mark.parametrize("field", ["retry_delay_seconds", "jitter_seconds", "timeout_seconds"])
def test_out_of_range_numbers_are_rejected(field: str) -> None:
    job = make_job()
    setattr(job, field, 2**40)
    with pytest.raises(ValidationError) as caught:
        job.full_clean()
    assert field in caught.value.message_dict


class TestFixtures:
    """Fixtures as people write them: only with what they define."""

    def load(self, tmp_path: Path, **fields: Any) -> Job:
        path = tmp_path / "jobs.json"
        row = {"model": "chroniker.job", "pk": 1, "fields": {"name": "report", **fields}}
        path.write_text(json.dumps([row]))
        call_command("loaddata", str(path), verbosity=0)
        return Job.objects.get(pk=1)

    def test_times_need_not_be_given(self, tmp_path: Path) -> None:
        began = utc_now()
        job = self.load(tmp_path, command="noop")
        assert began <= job.created_at <= job.updated_at <= utc_now()

    def test_loading_again_updates_the_row(self, tmp_path: Path) -> None:
        first = self.load(tmp_path, command="noop")
        again = self.load(tmp_path, command="report")
        assert (again.command, again.updated_at > first.updated_at) == ("report", True)

    def test_given_times_are_kept(self, tmp_path: Path) -> None:
        moment = "2026-05-04T12:00:00Z"
        job = self.load(tmp_path, command="noop", created_at=moment, updated_at=moment)
        assert job.created_at == job.updated_at == datetime(2026, 5, 4, 12, tzinfo=UTC)

    def test_save_sets_the_time_of_the_update(self) -> None:
        job = make_job()
        before = job.updated_at
        job.save()
        assert job.updated_at > before
        assert Job.objects.get(pk=job.pk).updated_at == job.updated_at
