"""The initial migrations create and drop all tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_django
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import CreateModel
from django.db.migrations.state import ModelState, ProjectState, StateApps
from django.db.models import Model

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


@pytest.mark.slow
def test_migrations_render_each_model_once(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is most of what the apps add to a site's own test run."""
    rendered: Counter[str] = Counter()
    render = ModelState.render

    def counted(self: ModelState, apps: StateApps) -> type[Model]:
        rendered[f"{self.app_label}.{self.name}"] += 1
        return render(self, apps)

    monkeypatch.setattr(ModelState, "render", counted)
    executor = MigrationExecutor(connections[empty])
    wanted = [key for key in executor.loader.graph.leaf_nodes() if key[0].startswith("chroniker")]
    state = executor.migrate(wanted)
    state.clear_delayed_apps_cache()  # as the command does before it emits post_migrate
    found = {name: n for name, n in rendered.items() if name.startswith("chroniker")}
    assert set(found.values()) == {1}
    job = state.apps.get_model("chroniker", "Job")
    relations = {relation.name for relation in job._meta.related_objects}
    assert {"states", "probe"} <= relations, relations


def two_models() -> CreateModels:
    return CreateModels([CreateModel(name, fields=[]) for name in ("One", "Two")])


def names(apps: StateApps) -> set[str]:
    return {model.__name__ for model in apps.get_models()}


def test_models_that_are_rendered_stay_so() -> None:
    state = ProjectState()
    apps = state.apps
    two_models().state_forwards("shop", state)
    assert state.apps is apps
    assert names(apps) == {"One", "Two"}


def test_models_that_are_out_of_date_are_rendered_when_they_are_needed() -> None:
    state = ProjectState()
    CreateModel("Old", fields=[]).state_forwards("shop", state)
    assert state.apps
    state.is_delayed = True
    two_models().state_forwards("shop", state)
    assert "apps" not in state.__dict__
    assert not state.is_delayed
    assert names(state.apps) == {"Old", "One", "Two"}


def test_models_of_an_earlier_state_are_not_shared() -> None:
    """A cloned state has the same classes, which know only the models of the first one."""
    state = ProjectState()
    CreateModel("Old", fields=[]).state_forwards("shop", state)
    assert state.apps
    later = state.clone()
    two_models().state_forwards("shop", later)
    assert "apps" not in later.__dict__
    assert names(state.apps) == {"Old"}
