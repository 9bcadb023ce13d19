"""System checks of the database, made without a query.

========  ===================================================================================
E010      tables that reference each other are in different databases
E011      users or groups are in another database than the jobs that they subscribe to
E012      the database is none that is supported
========  ===================================================================================
"""

from __future__ import annotations

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.models import Model

from .db.alias import database_alias

SUPPORTED = {"postgresql": "PostgreSQL", "mysql": "MariaDB or MySQL", "sqlite": "SQLite"}
"""By the vendor of the connection, which backends such as PostGIS share."""


def check_engine(**kwargs: object) -> list[CheckMessage]:
    """Check that the database is one on which claims and leases are tested."""
    alias = database_alias()
    try:
        vendor = connections[alias].vendor
    except ImproperlyConfigured:  # Django says it better
        return []
    if vendor in SUPPORTED:
        return []
    return [
        Error(
            f"The tables of Chroniker are in the database {alias!r}, whose engine is "
            f"{connections.settings[alias]['ENGINE']!r}. It is not supported.",
            hint=f"Use {', '.join(SUPPORTED.values())}; with a database router, for the apps "
            "chroniker and chroniker_monitors and the tables of users only.",
            id="chroniker.E012",
        )
    ]


def check_relations(**kwargs: object) -> list[CheckMessage]:
    """Check that no foreign key of Chroniker leads to another database."""
    ours: set[type[Model]] = set(apps.get_app_config("chroniker").get_models())
    relations = [relation for model in ours for relation in model._meta.related_objects]
    referencing = {relation.related_model for relation in relations}
    referenced = {
        field.related_model
        for model in ours
        for field in model._meta.get_fields()
        if field.is_relation and isinstance(field.related_model, type) and not field.auto_created
    }
    messages: list[CheckMessage] = []
    if elsewhere := _elsewhere(ours | {model for model in referencing if isinstance(model, type)}):
        messages.append(
            Error(
                f"The database router puts the tables of Chroniker into {database_alias()!r}, but "
                f"not those of {elsewhere}, which reference them.",
                hint="Let db_for_write() return the same alias for all models of chroniker, "
                "chroniker_monitors and the apps that reference them.",
                id="chroniker.E010",
            )
        )
    if elsewhere := _elsewhere(referenced - ours):
        messages.append(
            Error(
                f"The database router puts the tables of Chroniker into {database_alias()!r}, but "
                f"not those of {elsewhere}. Subscriptions are foreign keys, which cannot lead to "
                "another database.",
                hint="Let db_for_write() return the same alias for users, groups and Chroniker.",
                id="chroniker.E011",
            )
        )
    return messages


def _elsewhere(models: set[type[Model]]) -> str:
    """The models that are written to another database, as text; empty if there are none."""
    alias = database_alias()
    return ", ".join(
        sorted(model._meta.label for model in models if router.db_for_write(model) != alias)
    )


SITE_CHECKS = (check_engine, check_relations)
"""What the app registers."""
