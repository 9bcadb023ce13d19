"""Constraints of runs."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction
from django.utils.timezone import now

from chroniker.models import Run
from tests.factories import make_job

pytestmark = pytest.mark.django_db(transaction=True)


def test_database_rejects_a_second_running_run() -> None:
    job = make_job()
    Run.objects.create(job=job, scheduled_for=now())
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.create(job=job, scheduled_for=now())
    Run.objects.update(status="failed")
    Run.objects.create(job=job, scheduled_for=now())
