"""People who may do something with monitors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

SignIn = Callable[..., Client]

_numbers = itertools.count(1)


@pytest.fixture
def sign_in(db: None) -> SignIn:
    """``sign_in("view_monitor", "run_job")``: somebody of the staff who may do that."""

    def make(*permissions: str, superuser: bool = False, csrf: bool = False) -> Client:
        user = User.objects.create_user(
            f"guard{next(_numbers)}", password=None, is_staff=True, is_superuser=superuser
        )
        found = Permission.objects.filter(
            codename__in=permissions,
            content_type__app_label__in=["chroniker", "chroniker_monitors", "auth"],
        )
        assert {p.codename for p in found} == set(permissions)
        user.user_permissions.set(found)
        client = Client(enforce_csrf_checks=csrf)
        client.force_login(user)
        return client

    return make


@pytest.fixture
def root(sign_in: SignIn) -> Client:
    return sign_in(superuser=True)


def monitor_admin_url(name: str, row: Any = None) -> str:
    return reverse(
        f"admin:chroniker_monitors_monitor_{name}", args=[row.pk] if row is not None else []
    )


def form_data(**fields: Any) -> dict[str, Any]:
    """What the browser sends for a new monitor, unless told otherwise."""
    data = {
        "name": "disk of web1", "description": "", "enabled": "on", "schedule": "*/5 * * * *",
        "timezone": "UTC", "hostname": "", "probe_operator": ">", "probe_warning": "80",
        "probe_critical": "90", "probe_consecutive": "1", "probe_recovery": "1",
        "probe_timeout": "10", "probe_unit": "", "probe_sample_days": "31",
        "max_runs_kept": "100", "timeout_seconds": "", "memory_limit_mb": "", "priority": "0",
        "jitter_seconds": "0", "reminder_hours": "24", "email_on_failure": "on",
        "runbook_url": "",
    } | fields  # fmt: skip
    return {name: value for name, value in data.items() if value is not None}
