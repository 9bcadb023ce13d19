"""Validation of jobs and their dependencies."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from chroniker.models import JobDependency
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
