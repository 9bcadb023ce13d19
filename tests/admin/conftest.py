"""People with permissions, and rows as the scheduler leaves them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils.timezone import now as utc_now

from chroniker.enums import RunStatus
from chroniker.models import Job, JobState, OutputChunk, Run

_numbers = itertools.count(1)

SignIn = Callable[..., Client]


@pytest.fixture
def sign_in(db: None) -> SignIn:
    """``sign_in("view_job", "run_job")``: a client of somebody of the staff who may do that."""

    def make(*permissions: str, superuser: bool = False, csrf: bool = False) -> Client:
        number = next(_numbers)
        user = User.objects.create_user(
            f"user{number}", password=None, is_staff=True, is_superuser=superuser
        )
        found = Permission.objects.filter(
            codename__in=permissions, content_type__app_label__in=["chroniker", "auth"]
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


def make_run(job: Job, **fields: Any) -> Run:
    """A run that ended well ten seconds ago, unless told otherwise."""
    now = utc_now()
    fields.setdefault("status", RunStatus.SUCCEEDED)
    fields.setdefault("scheduled_for", now - timedelta(seconds=next(_numbers)))
    fields.setdefault("started_at", now - timedelta(seconds=12))
    if fields["status"] != RunStatus.RUNNING:
        fields.setdefault("ended_at", now - timedelta(seconds=10))
        fields.setdefault("duration_seconds", 2.0)
    return Run.objects.create(job=job, **fields)


def make_running(job: Job, host: str = "", lease_host: str = "web1", **fields: Any) -> JobState:
    """A state that a tick owns, with its run."""
    run = make_run(job, host=host, status=RunStatus.RUNNING, ran_on=lease_host)
    state, _ = JobState.objects.update_or_create(
        job=job,
        host=host,
        defaults={
            "current_run": run,
            "lease_token": str(uuid4()),
            "lease_host": lease_host,
            "lease_expires_at": utc_now() + timedelta(minutes=1),
            **fields,
        },
    )
    return state


def make_output(run: Run, *pieces: tuple[str, str] | tuple[str, str, int]) -> None:
    """``("stdout", "text")``, or ``("stdout", "text", offset)`` where something was lost."""
    ends: dict[str, int] = {}
    for stream, text, *offset in pieces:
        start = int(offset[0]) if offset else ends.get(stream, 0)
        size = len(text.encode())
        ends[stream] = start + size
        OutputChunk.objects.create(
            run=run, stream=stream, offset=start, size=size, text=text, written_at=utc_now()
        )
    for stream, end in ends.items():
        Run.objects.filter(pk=run.pk).update(**{f"{stream}_bytes": end})


def minutes_from_now(minutes: float) -> datetime:
    """So many minutes from now."""
    return utc_now() + timedelta(minutes=minutes)
