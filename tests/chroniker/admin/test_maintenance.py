"""A window for all jobs needs a confirmation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now as utc_now

from chroniker.models import Maintenance, MaintenanceJob
from tests.factories import make_job, make_maintenance
from tests.support.admin import admin_url
from tests.support.types import SignIn

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


def form(**fields: str) -> dict[str, Any]:
    now = utc_now()
    end = now + timedelta(days=1)
    return {
        "reason": "new disks", "timezone": "UTC",
        "starts_at_0": f"{now:%Y-%m-%d}", "starts_at_1": f"{now:%H:%M:%S}",
        "ends_at_0": f"{end:%Y-%m-%d}", "ends_at_1": f"{end:%H:%M:%S}",
        "entries-TOTAL_FORMS": "0", "entries-INITIAL_FORMS": "0",
    } | fields  # fmt: skip


def test_a_window_without_jobs_is_refused_until_it_is_confirmed(root: Client) -> None:
    url = admin_url("maintenance_add")
    refused = root.post(url, form())
    assert refused.status_code == 200
    assert "so it would mute all of them" in refused.content.decode()
    assert not Maintenance.objects.exists()
    assert root.post(url, form(all_jobs="on")).status_code == 302
    window = Maintenance.objects.get()
    change = root.get(admin_url("maintenance_change", window))
    assert change.context["adminform"].form["all_jobs"].value() is True


def test_removing_the_last_job_needs_the_confirmation_as_well(root: Client) -> None:
    window = make_maintenance(utc_now(), 60, make_job())
    entry = MaintenanceJob.objects.get()
    data = form(**{
        "entries-TOTAL_FORMS": "1", "entries-INITIAL_FORMS": "1", "entries-0-id": str(entry.pk),
        "entries-0-maintenance": str(window.pk), "entries-0-job": str(entry.job_id),
        "entries-0-DELETE": "on",
    })  # fmt: skip
    url = admin_url("maintenance_change", window)
    refused = root.post(url, data)
    assert "so it would mute all of them" in refused.content.decode()
    assert MaintenanceJob.objects.count() == 1
    assert root.post(url, {**data, "all_jobs": "on"}).status_code == 302
    assert MaintenanceJob.objects.count() == 0


def test_users_who_may_not_choose_jobs_confirm_as_well(sign_in: SignIn) -> None:
    client = sign_in("add_maintenance", "view_maintenance")
    url = admin_url("maintenance_add")
    assert "so it would mute all of them" in client.post(url, form()).content.decode()
    assert client.post(url, form(all_jobs="on")).status_code == 302
    assert Maintenance.objects.count() == 1
