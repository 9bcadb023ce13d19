"""A migration that this version does not know stops it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils.timezone import now

from chroniker.db import schema
from chroniker.engine.candidates import ClaimOptions
from chroniker.engine.claims import claim, new_token
from chroniker.engine.heartbeat import record_heartbeat
from chroniker.engine.planning import plan_changed_jobs
from chroniker.exceptions import NewerSchema
from chroniker.models import Host, JobState
from tests.factories import make_due_job

pytestmark = pytest.mark.django_db


def record(name: str, app: str = "chroniker") -> None:
    MigrationRecorder(connection).record_applied(app, name)


def test_unknown_migration_stops_the_heartbeat(settings: Any) -> None:
    record_heartbeat("web1")
    before = Host.objects.get()
    record("0002_run_ticket")
    with pytest.raises(NewerSchema) as raised:
        record_heartbeat("web1")
    assert raised.value.exit_code == 4
    with pytest.raises(NewerSchema):
        record_heartbeat("web2")
    assert Host.objects.get().last_tick_at == before.last_tick_at, "it does not count as ticking"


def test_unknown_migration_stops_a_claim_that_comes_after_it() -> None:
    make_due_job()
    record_heartbeat("web1")
    plan_changed_jobs(now())
    record("0002_run_ticket")
    result = claim(ClaimOptions("web1", "me", 4), now(), now(), new_token())
    assert result.started == []
    assert JobState.objects.get().lease_token is None
    MigrationRecorder(connection).record_unapplied("chroniker", "0002_run_ticket")
    assert claim(ClaimOptions("web1", "me", 4), now(), now(), new_token()).started


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("0001_squashed_0007_everything", "chroniker"),  # of what this version has, too
        ("0009_something", "chroniker_monitors"),
        ("0009_something", "shop"),
    ],
)
def test_other_migrations_do_not(name: str, app: str) -> None:
    record(name, app)
    assert record_heartbeat("web1").clock


@pytest.fixture
def forget_names() -> Iterator[None]:
    schema._next_migration.cache_clear()
    yield
    schema._next_migration.cache_clear()


@pytest.mark.one_database
def test_site_without_migrations(settings: Any, forget_names: None) -> None:
    settings.MIGRATION_MODULES = {"chroniker": None}
    record("0002_run_ticket")
    assert record_heartbeat("web1").clock


@pytest.fixture
def unreadable_table(transactional_db: None) -> Iterator[None]:
    """As for a role that does not see the table."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_migrations RENAME TO hidden_migrations")
    yield
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE hidden_migrations RENAME TO django_migrations")
    schema._readable = True


@pytest.mark.django_db(transaction=True)
def test_table_that_cannot_be_read_is_left_alone(unreadable_table: None) -> None:
    for _ in range(2):
        assert record_heartbeat("web1").clock
    assert Host.objects.get().last_tick_at is not None
    assert not schema.check_readable()
