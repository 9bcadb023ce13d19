"""The helpers of the suite: every other test relies on them."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection

from tests.databases import acquire_slot
from tests.support.machine import REPO
from tests.support.processes import (
    ProcessMarker,
    ProcessResult,
    assert_no_leftovers,
    fork,
    wait_until,
)
from tests.support.types import RunInFork, RunManage


def test_fork_returns_value_output_and_exit_code(run_in_fork: RunInFork) -> None:
    def speak() -> dict[str, int]:
        print("héllo")
        os.write(2, b"raw \xff")
        return {"answer": 42}

    ended = run_in_fork(speak).wait()
    assert ended.value == {"answer": 42}
    assert (ended.exit_code, ended.signal) == (0, None)
    assert (ended.stdout, ended.stderr) == ("héllo\n", "raw \\xff")


@pytest.mark.parametrize(
    ("argument", "code", "said"), [(3, 3, ""), (None, 0, ""), ("no such job", 1, "no such job\n")]
)
def test_fork_exits_as_a_program_does(
    run_in_fork: RunInFork, argument: int | str | None, code: int, said: str
) -> None:
    ended = run_in_fork(sys.exit, argument).wait()
    assert (ended.exit_code, ended.stderr) == (code, said)


def test_fork_that_raises_shows_its_traceback(run_in_fork: RunInFork) -> None:
    ended = run_in_fork(int, "x").wait()
    assert ended.exit_code == 1
    assert "ValueError: invalid literal" in ended.stderr


def test_fork_can_be_killed(run_in_fork: RunInFork) -> None:
    child = run_in_fork(time.sleep, 60)
    assert child.alive
    child.kill()
    assert child.wait().signal is signal.SIGKILL
    assert not child.alive


def test_fork_that_hangs_is_killed_and_quoted(run_in_fork: RunInFork) -> None:
    def hang() -> None:
        print("before the hang", flush=True)
        subprocess.run(["sleep", "60"])

    with pytest.raises(AssertionError, match="before the hang"):
        run_in_fork(hang).wait(timeout=0.3)


@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_fork_while_a_thread_runs(run_in_fork: RunInFork) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, 0).result()
        assert run_in_fork(os.getpid).wait().exit_code == 0


@pytest.mark.django_db
def test_fork_inside_a_transaction_is_refused() -> None:
    Group.objects.count()
    with pytest.raises(AssertionError, match="transaction=True"):
        fork(int)


@pytest.mark.django_db(transaction=True)
def test_fork_writes_what_the_parent_sees(run_in_fork: RunInFork) -> None:
    Group.objects.create(name="before")
    ended = run_in_fork(lambda: Group.objects.create(name="from the child").pk).wait()
    assert Group.objects.get(pk=ended.value).name == "from the child"


@pytest.mark.parametrize("again", [1, 2])
@pytest.mark.django_db(transaction=True)
def test_tables_are_emptied_and_permissions_kept(again: int) -> None:
    assert not Group.objects.exists()
    assert not User.objects.exists()
    kinds, permissions = ContentType.objects.count(), Permission.objects.count()
    assert min(kinds, permissions) > 0
    group = Group.objects.create(name="g")
    group.permissions.set(Permission.objects.all()[:3])
    User.objects.create(username="u").groups.add(group)


@pytest.mark.django_db(transaction=True)
def test_manage_sees_this_database(manage: RunManage) -> None:
    User.objects.create(username="seen")
    code = "from django.contrib.auth.models import User; print(User.objects.get().username)"
    done = manage("shell", "--no-imports", "-c", code)
    assert (done.stdout, done.stderr, done.returncode) == ("seen\n", "", 0)


def _daemonise() -> None:
    """Leave session, parent and file descriptors, as a daemon does."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 4096)
    time.sleep(60)


@pytest.mark.parametrize("executed", [False, True])
def test_leftover_daemon_is_found_and_killed(executed: bool) -> None:
    mark = ProcessMarker()
    try:
        if executed:
            code = f"import os, time\n{inspect.getsource(_daemonise)}\n_daemonise()"
            subprocess.run([sys.executable, "-c", code], check=True)
        else:
            fork(_daemonise).wait()
        wait_until(mark.marked_processes)
        with pytest.raises(pytest.fail.Exception, match="outlived the test"):
            assert_no_leftovers(mark, grace=0.05)
        wait_until(lambda: not mark.marked_processes())
    finally:
        mark.close()


def test_wait_until_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match="s for: the moon"):
        wait_until(lambda: 0, timeout=0.05, message="the moon")


def test_slots_are_not_shared_between_processes(run_in_fork: RunInFork) -> None:
    slot, held = acquire_slot()
    with held:
        assert run_in_fork(lambda: acquire_slot()[0]).wait().value != slot


def test_result_joins_its_output() -> None:
    assert ProcessResult(0, None, "a", "b", None, 0.0).output == "ab"


@pytest.mark.django_db
def test_database_is_the_chosen_one() -> None:
    from tests.settings import BACKEND

    assert connection.vendor == {"mariadb": "mysql", "postgres": "postgresql"}.get(BACKEND, BACKEND)


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield str(node.module)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_nothing_is_imported_from_a_test_module_or_conftest(folder: str) -> None:
    if not (REPO / folder).is_dir():
        pytest.skip(f"the source distribution has no {folder}")
    found = [
        f"{path.relative_to(REPO)}: {name}"
        for path in sorted((REPO / folder).rglob("*.py"))
        for name in imported_modules(path)
        for part in [name.rpartition(".")[2]]
        if name.startswith("tests.")
        and (part == "conftest" or part.startswith("test_") or ".test_" in name)
    ]
    assert found == []
