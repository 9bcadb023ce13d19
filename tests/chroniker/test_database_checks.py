"""What ``manage.py check`` reports about the database."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import Tags, run_checks
from django.db import connections
from django.test import override_settings

from chroniker.database_checks import check_engine, check_relations
from tests.support.machine import REPO


@pytest.fixture
def two_databases() -> Iterator[None]:
    """``other`` is a second database; nothing connects to it."""
    for alias in ("other", "scheduler", "replica"):
        connections.settings[alias] = copy.deepcopy(connections.settings["default"])
    yield
    for alias in ("other", "scheduler", "replica"):
        del connections.settings[alias]


class UsersAndJobsInDefault:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "chroniker_monitors" else None

    db_for_read = db_for_write


def ids() -> set[str]:
    return {str(message.id) for message in [*check_engine(), *check_relations()]}


@pytest.mark.usefixtures("two_databases")
@pytest.mark.parametrize(
    ("router", "expected"),
    [
        ("tests.deployments.routers.OwnAlias", set()),
        ("tests.deployments.routers.ReadsFromReplica", set()),
        ("tests.deployments.routers.UsersElsewhere", {"chroniker.E011"}),
        (f"{__name__}.UsersAndJobsInDefault", {"chroniker.E010"}),
    ],
)
def test_tables_of_one_site_are_in_one_database(router: str, expected: set[str]) -> None:
    with override_settings(DATABASE_ROUTERS=[router]):
        assert ids() == expected
        assert expected <= {str(message.id) for message in run_checks(tags=[Tags.compatibility])}


def test_no_router_is_no_problem() -> None:
    assert ids() == set()


SITE = """
import sys, types
from django.conf import settings
base = types.ModuleType("strange.base")
from django.db.backends.dummy.base import DatabaseWrapper as Dummy
class DatabaseWrapper(Dummy):
    vendor = "strange"
base.DatabaseWrapper = DatabaseWrapper
sys.modules["strange"] = types.ModuleType("strange")
sys.modules["strange.base"] = base
settings.configure(
    DATABASES={"default": {"ENGINE": "strange"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "chroniker"],
    USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "migrate"])
"""


def test_migrate_names_an_engine_that_is_not_supported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SITE], cwd=REPO, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "chroniker.E012" in done.stderr
    assert "'strange'" in done.stderr
    assert "Traceback" not in done.stderr
