"""The initial migrations create and drop all tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_django
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import CreateModel
from django.db.migrations.state import ProjectState

from chroniker.db.operations import CreateModels


@pytest.fixture
def empty(tmp_path: Path, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[str]:
    """An alias of an empty database."""
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    settings = connections.configure_settings({"empty": entry, "default": {}})["empty"]
    connections.settings["empty"] = settings
    with django_db_blocker.unblock():
        yield "empty"
    connections["empty"].close()
    del connections["empty"]
    del connections.settings["empty"]


@pytest.mark.slow
def test_tables_are_created_and_dropped(empty: str) -> None:
    connection = connections[empty]
    executor = MigrationExecutor(connection)
    wanted = [key for key in executor.loader.graph.leaf_nodes() if key[0].startswith("chroniker")]
    executor.migrate(wanted)
    tables = {name for name in connection.introspection.table_names() if "chroniker" in name}
    assert {"chroniker_job", "chroniker_job_subscribers", "chroniker_monitors_probe"} <= tables
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "chroniker_jobstate")
    assert {"chroniker_state_due", "chroniker_state_once", "chroniker_state_lease_ends"} <= set(
        found
    )
    executor = MigrationExecutor(connection)
    executor.migrate([("chroniker", None)])
    left = {name for name in connection.introspection.table_names() if "chroniker" in name}
    assert left == set()


def test_models_are_rendered_once_and_only_when_they_are_needed() -> None:
    state = ProjectState()
    assert state.apps is not None
    operations = [CreateModel(name, fields=[]) for name in ("One", "Two")]
    CreateModels(operations).state_forwards("shop", state)
    assert "apps" not in state.__dict__
    assert {model.__name__ for model in state.apps.get_models()} == {"One", "Two"}
