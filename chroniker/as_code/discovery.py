"""Find declarations: in the commands and tasks of apps, and in modules ``chroniker_jobs``."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from django.apps import apps
from django.core.management import get_commands

from chroniker.declarations import declared_jobs
from chroniker.site_tasks import import_task_modules

from .desired import DesiredState, build
from .kinds import kinds

MODULE = "chroniker_jobs"
"""The module of an app that declares jobs."""
_NOT_SEARCHED = ("django.", "chroniker", "chroniker_monitors")


def read_declarations(state: DesiredState) -> None:
    """Import what may declare jobs, and add the declarations. Mistakes become errors."""
    for app in apps.get_app_configs():
        _import(f"{app.name}.{MODULE}", state, needed=False)
    for name, package in get_commands().items():
        if isinstance(package, str) and not package.startswith(_NOT_SEARCHED):
            _import(f"{package}.management.commands.{name}", state, needed=True)
    state.errors += [
        f"{name} cannot be imported: {reason}" for name, reason in import_task_modules().items()
    ]
    known = {kind.key: kind for kind in kinds()}
    for job in declared_jobs():
        kind = known.get(job.section)
        if kind is None:
            state.errors.append(
                f"{job.name} in {job.module}: monitors need chroniker_monitors in INSTALLED_APPS."
            )
            continue
        entry = build(kind, job.name, dict(job.fields), job.module, state.errors, keeps_edits=True)
        if entry is not None:
            state.add(entry)


def _import(name: str, state: DesiredState, *, needed: bool) -> None:
    try:
        if needed or find_spec(name) is not None:
            import_module(name)
    except Exception as error:  # a module of the site may raise anything
        reason = " ".join(str(error).split())
        state.errors.append(f"{name} cannot be imported: {type(error).__name__}: {reason}")
