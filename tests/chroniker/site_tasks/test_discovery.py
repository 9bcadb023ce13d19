"""Which tasks a job may run, and how they are found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from chroniker.exceptions import CommandRefused
from chroniker.site_tasks import check_task, find_tasks, load_task
from tests.support.tasks import TASKS, needs_tasks


@needs_tasks
def test_tasks_of_apps_are_found() -> None:
    found = find_tasks()
    assert f"{TASKS}.say" in found.tasks
    assert list(found.tasks) == sorted(found.tasks)
    assert not found.errors
    assert load_task(f"{TASKS}.say") is found.tasks[f"{TASKS}.say"]


@needs_tasks
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("os.system", "not in the module `tasks` of an installed app"),
        ("tests.testapp.apps.init_sentry", "not in the module `tasks`"),
        ("say", "not in the module `tasks`"),
        (f"{TASKS}.", "is no dotted path"),
        (f"{TASKS}.sey", "has no task 'sey'. Did you mean 'say'?"),
        (f"{TASKS}.nothing_like_it", "has no task 'nothing_like_it'. Its tasks: say, fail"),
        (f"{TASKS}.no_task", "is not a task. Decorate the function with @task"),
        (f"{TASKS}.inner.say", "cannot be loaded here: ModuleNotFoundError"),
    ],
)
def test_what_is_no_task_is_refused_with_the_reason(path: str, reason: str) -> None:
    with pytest.raises(CommandRefused) as refused:
        load_task(path)
    assert reason in str(refused.value)


@needs_tasks
@pytest.mark.parametrize("kind", [list, tuple, set])
def test_only_listed_tasks_are_allowed(kind: Any) -> None:
    with override_settings(CHRONIKER_ALLOWED_TASKS=kind([f"{TASKS}.say"])):
        check_task(f"{TASKS}.say")
        assert list(find_tasks().tasks) == [f"{TASKS}.say"]
        with pytest.raises(CommandRefused, match="Add it to CHRONIKER_ALLOWED_TASKS"):
            load_task(f"{TASKS}.fail")


@needs_tasks
def test_package_of_tasks_with_a_broken_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Other modules are searched; an imported task is listed once, where it is defined."""
    package = tmp_path / "bookshop" / "tasks"
    package.mkdir(parents=True)
    (tmp_path / "bookshop" / "__init__.py").touch()
    (package / "__init__.py").write_text("from .nightly import rebuild\n")
    (package / "nightly.py").write_text(
        f"from {TASKS} import task\n"
        "@task\ndef rebuild(): ...\n"
        "slowly = rebuild.using(backend='dummy')\n"
    )
    (package / "broken.py").write_text("raise RuntimeError('boom')\n")
    (package / "inner").mkdir()
    (package / "inner" / "__init__.py").write_text("import sys; sys.exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "bookshop"]
    found = find_tasks()
    ours = [path for path in found.tasks if path.startswith("bookshop")]
    assert ours == ["bookshop.tasks.nightly.rebuild", "bookshop.tasks.nightly.slowly"]
    assert found.errors == {
        "bookshop.tasks.broken": "RuntimeError: boom", "bookshop.tasks.inner": "SystemExit: 3",
    }  # fmt: skip
    assert load_task("bookshop.tasks.rebuild") is found.tasks[ours[0]]
    with pytest.raises(CommandRefused, match="cannot be loaded here: RuntimeError: boom"):
        load_task("bookshop.tasks.broken.rebuild")
    for name in [name for name in sys.modules if name.split(".")[0] == "bookshop"]:
        del sys.modules[name]


@pytest.mark.usefixtures("without_tasks")
def test_without_a_library_the_error_says_what_to_install() -> None:
    assert find_tasks().tasks == {}
    with pytest.raises(CommandRefused, match=r"pip install 'chroniker\[tasks\]'"):
        load_task(f"{TASKS}.say")
