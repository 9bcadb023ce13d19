"""Nothing of Chroniker goes to ``default`` or to a replica by accident."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.test import override_settings

from chroniker.db.alias import database_alias
from chroniker.db.querysets import PrimaryQuerySet
from chroniker.models import Job
from tests.support.machine import REPO

MODULES = [
    path
    for package in ("chroniker", "chroniker_monitors")
    for path in sorted((REPO / package).rglob("*.py"))
    if "migrations" not in path.parts
]
READERS_OF_THE_SITE = {"chroniker/doctor/database.py", "chroniker_monitors/probes/records.py"}
"""Modules that ask the router where the site's own models are read, or whether it has replicas."""


def accidents(tree: ast.AST) -> Iterator[str]:
    """What uses the default database, or asks the router for reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "django.db":
            names = {alias.name for alias in node.names}
            yield from names & {"connection", "DEFAULT_DB_ALIAS"}
        if isinstance(node, ast.Attribute) and node.attr == "db_for_read":
            yield "db_for_read"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_transaction = getattr(node.func.value, "id", "") == "transaction"
            keywords = {keyword.arg for keyword in node.keywords}
            if of_transaction and "using" not in keywords:
                yield f"transaction.{node.func.attr}() without using="
        if isinstance(node, ast.Attribute) and node.attr == "non_atomic_requests":
            parent_has_using = any(
                isinstance(call, ast.Call)
                and call.func is node
                and any(keyword.arg == "using" for keyword in call.keywords)
                for call in ast.walk(tree)
            )
            if not parent_has_using:
                yield "non_atomic_requests of one database"


@pytest.mark.parametrize(
    "text",
    [
        "from django.db import connection",
        "with transaction.atomic(): pass",
        "transaction.on_commit(print)",
        "alias = router.db_for_read(Job)",
        "@transaction.non_atomic_requests\ndef view(): pass",
    ],
)
def test_accidents_are_recognized(text: str) -> None:
    assert list(accidents(ast.parse(text)))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(REPO)))
def test_module_uses_no_database_by_accident(path: Path) -> None:
    found = set(accidents(ast.parse(path.read_text())))
    if str(path.relative_to(REPO)) in READERS_OF_THE_SITE:
        found.discard("db_for_read")
    assert not found


MODELS = [
    model
    for label in ("chroniker", "chroniker_monitors")
    for model in apps.get_app_config(label).get_models()
]


@override_settings(DATABASE_ROUTERS=["tests.deployments.routers.ReadsFromReplica"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_manager_reads_where_it_writes(model: type[Job]) -> None:
    for manager in (*model._meta.managers, model._base_manager):
        assert isinstance(manager.get_queryset(), PrimaryQuerySet)
        assert manager.get_queryset().db == "default"
        assert manager.using("replica").db == "replica"


@override_settings(DATABASE_ROUTERS=["tests.deployments.routers.OwnAlias"])
def test_alias_is_what_the_router_names_for_writes() -> None:
    assert database_alias() == "scheduler"
