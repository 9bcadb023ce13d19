"""Fixtures of the whole suite; see CONTRIBUTING.md for how to run it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.db import connections
from django.test import Client, TransactionTestCase

# Before the modules are imported: pytest then explains their asserts, too.
pytest.register_assert_rewrite("tests.support", "tests.factories")

from tests import databases  # noqa: E402
from tests.support.machine import REPO, free_port, require  # noqa: E402
from tests.support.processes import (  # noqa: E402
    ForkedProcess,
    ProcessMarker,
    ProcessResult,
    assert_no_leftovers,
    fork,
)
from tests.support.recording_server import RecordingServer, run_recording_server  # noqa: E402
from tests.support.types import RunInFork, SignIn, StartTick  # noqa: E402

hypothesis.settings.register_profile(
    "ci",
    deadline=None,
    print_blob=True,
    derandomize=False,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # on a busy machine it means nothing
)
hypothesis.settings.register_profile("dev", parent=hypothesis.settings.get_profile("ci"))
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "dev")
)

# What tests with these markers require.
REQUIRED_BY_MARKER = {
    "cron": ("cron", "root"),
    "browser": ("chromium",),
    "prometheus": ("prometheus",),
}
DATABASE_FIXTURES = {"db", "transactional_db", "live_server"}


# --- which tests run ------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-db",
        action="store_true",
        help="only tests that touch the database: for the second and third kind of database",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    with_scale = "scale" in (config.getoption("markexpr") or "")
    only_db = config.getoption("only_db")
    chosen = [
        item
        for item in items
        if (with_scale or not item.get_closest_marker("scale"))
        and (not only_db or _uses_database(item))
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


def _uses_database(item: pytest.Item) -> bool:
    if item.get_closest_marker("one_database"):
        return False
    fixtures = set(getattr(item, "fixturenames", ()))
    return item.get_closest_marker("django_db") is not None or bool(fixtures & DATABASE_FIXTURES)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, names in REQUIRED_BY_MARKER.items():
        if item.get_closest_marker(marker):
            require(*names)


# --- databases ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> Iterator[None]:
    """pytest-django's hook: this process's own database (see tests/databases.py)."""
    slot, held = databases.acquire_slot()
    with held:
        for connection in connections.all():
            connection.settings_dict["TEST"]["NAME"] = databases.database_name(connection, slot)
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The environment of child processes names the database of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHRONIKER_TEST_DB_NAME", connections["default"].settings_dict["NAME"])
        patch.setattr(TransactionTestCase, "_fixture_teardown", _delete_all_rows)
        yield


def _delete_all_rows(case: TransactionTestCase) -> None:
    databases.delete_all_rows(case._databases_names(include_mirrors=False))


# --- processes ------------------------------------------------------------------------------


@pytest.fixture
def no_leftovers(request: pytest.FixtureRequest) -> Iterator[ProcessMarker]:
    """Fail a test that leaves a process behind; ``@pytest.mark.no_leftovers(grace=seconds)``.

    Used by every test that uses ``run_in_fork``, ``run_tick``, ``start_tick``, ``manage`` or
    ``start_manage``, and for those with the marker.
    """
    marker = request.node.get_closest_marker("no_leftovers")
    mark = ProcessMarker()
    try:
        yield mark
        assert_no_leftovers(mark, marker.kwargs.get("grace", 3.0) if marker else 3.0)
    finally:
        mark.close()


@pytest.fixture(autouse=True)
def _apply_no_leftovers_marker(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("no_leftovers"):
        request.getfixturevalue("no_leftovers")


@pytest.fixture
def run_in_fork(
    no_leftovers: ProcessMarker,
) -> Iterator[RunInFork]:
    """``run_in_fork(function, *args, **kwargs)``: a :class:`ForkedProcess`; killed at the end."""
    forked: list[ForkedProcess] = []

    def start(function: Callable[..., Any], *args: Any, **kwargs: Any) -> ForkedProcess:
        forked.append(fork(function, *args, **kwargs))
        return forked[-1]

    yield start
    for child in forked:
        child.kill()
        child.wait()


def _tick(options: dict[str, Any]) -> None:
    from chroniker.engine.scheduler import Scheduler

    result = Scheduler(**options).run()
    sys.exit(result if isinstance(result, int) else 0)


@pytest.fixture
def start_tick(transactional_db: None, run_in_fork: RunInFork) -> Callable[..., ForkedProcess]:
    """``start_tick(**options)``: a tick in a fork that runs while the test continues."""

    def start(**options: Any) -> ForkedProcess:
        return run_in_fork(_tick, options)

    return start


@pytest.fixture
def run_tick(
    start_tick: StartTick,
) -> Callable[..., ProcessResult]:
    """``run_tick(timeout=60, **options)``: run a tick in a fork and wait for its result."""

    def run(timeout: float = 60, **options: Any) -> ProcessResult:
        return start_tick(**options).wait(timeout)

    return run


@pytest.fixture
def site_env(transactional_db: None, no_leftovers: ProcessMarker) -> dict[str, str]:
    """The environment in which ``python -m django`` runs the test site on this database."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return env | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": str(REPO),
        "CHRONIKER_TEST_DB_NAME": connections["default"].settings_dict["NAME"],
    }


@pytest.fixture
def manage(
    site_env: dict[str, str], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``manage(*argv, timeout=60, env=None)``: run a management command in a new Python."""

    def run(
        *argv: str, timeout: float = 60, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "django", *argv],
            env=site_env | (env or {}),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=timeout,
        )

    return run


@pytest.fixture
def start_manage(
    site_env: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """``start_manage(*argv, env=None)``: start it without waiting; its output goes to
    ``tmp_path / "<command>.log"``, and it is killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*argv: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{argv[0]}.log").open("ab") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "django", *argv],
                    env=site_env | (env or {}),
                    cwd=tmp_path,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(name="free_port")
def free_port_fixture() -> int:
    """A TCP port of loopback on which nothing listens now."""
    return free_port()


# --- the site -------------------------------------------------------------------------------

_user_numbers = itertools.count(1)


@pytest.fixture
def sign_in(db: None) -> SignIn:
    """``sign_in("view_job", "run_job")``: a client logged in as staff with these permissions."""
    from django.contrib.auth.models import Permission, User

    def make(*permissions: str, superuser: bool = False, csrf: bool = False) -> Client:
        user = User.objects.create_user(
            f"user{next(_user_numbers)}", password=None, is_staff=True, is_superuser=superuser
        )
        found = Permission.objects.filter(
            codename__in=permissions,
            content_type__app_label__in=["chroniker", "chroniker_monitors", "auth"],
        )
        assert {permission.codename for permission in found} == set(permissions)
        user.user_permissions.set(found)
        client = Client(enforce_csrf_checks=csrf)
        client.force_login(user)
        return client

    return make


@pytest.fixture
def root(sign_in: SignIn) -> Client:
    """A client logged in as a superuser."""
    return sign_in(superuser=True)


@pytest.fixture
def own_runtime_dir(settings: Any, tmp_path: Path) -> None:
    """The site keeps its runtime files in a directory of this test."""
    settings.CHRONIKER_RUNTIME_DIR = str(tmp_path / "runtime")


@pytest.fixture
def strict_policy(settings: Any) -> None:
    """Every response has a content security policy that forbids inline scripts and styles."""
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "tests.support.browser.StrictContentSecurityPolicy",
    ]


@pytest.fixture
def recording_server() -> Iterator[RecordingServer]:
    """An HTTP server that records every request; it serves as Sentry and as dead man's switch."""
    with run_recording_server() as server:
        yield server
