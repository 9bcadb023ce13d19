"""Constraints and severities of incidents."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from chroniker.enums import Severity
from chroniker.models import Incident
from tests.factories import make_job
from tests.support.timeline import START

pytestmark = pytest.mark.django_db(transaction=True)


def test_database_rejects_a_second_open_incident() -> None:
    job = make_job()
    fields: dict[str, Any] = {
        "job": job, "kind": "condition", "severity": "info",
        "opened_at": START, "last_seen_at": START,
    }  # fmt: skip
    Incident.objects.create(**fields, resolved_at=START)
    Incident.objects.create(**fields, resolved_at=START)
    Incident.objects.create(**fields)
    with pytest.raises(IntegrityError), transaction.atomic():
        Incident.objects.create(**fields)


def test_severities_have_an_order() -> None:
    assert sorted(Severity, key=lambda severity: severity.rank) == ["info", "warning", "critical"]
