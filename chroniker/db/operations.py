"""A migration operation that creates many tables, for the initial migrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.db.migrations.operations.base import Operation
from django.db.migrations.operations.models import CreateModel

if TYPE_CHECKING:
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.migrations.state import ProjectState, StateApps


class CreateModels(Operation):
    """Perform several operations, and render each model at most once.

    Django renders a model again with each operation, and all models that are related to it. For the
    tables of Chroniker that cost each test run of a site half a second.
    """

    serialization_expand_args = ["operations"]
    reduces_to_sql = True
    reversible = True

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Add everything; models that are rendered already stay so, if they may."""
        apps = state.__dict__.pop("apps", None)
        for operation in self.operations:
            operation.state_forwards(app_label, state)
        created = [op.name_lower for op in self.operations if isinstance(op, CreateModel)]
        if apps and len(created) == len(self.operations) and _may_grow(apps, state):
            apps.render_multiple([state.models[app_label, name] for name in created])
            state.__dict__["apps"] = apps
        # Otherwise all are rendered when they are needed, so that none is out of date then.
        state.is_delayed = False

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Create the tables."""
        for operation in self.operations:
            operation.database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Drop the tables, the last one first."""
        for operation in reversed(self.operations):
            operation.database_backwards(app_label, schema_editor, from_state, to_state)

    def describe(self) -> str:
        """For ``migrate --plan``."""
        return f"Create {len(self.operations)} tables and relations"


def _may_grow(apps: StateApps, state: ProjectState) -> bool:
    """Whether the models can get relations: none is out of date, or looks them up elsewhere."""
    return not state.is_delayed and all(model._meta.apps is apps for model in apps.get_models())
