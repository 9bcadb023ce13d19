"""System checks of the executors (``chroniker.E004`` and ``chroniker.E027``)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string

from .conf import CELERY, LOCAL, conf, remote_executors


def check_executors(**kwargs: object) -> list[CheckMessage]:
    """Check that the executors exist; no broker is contacted."""
    executor, own = conf.EXECUTOR, conf.EXECUTORS
    if not isinstance(executor, str) or not isinstance(own, Mapping):
        return []  # E001
    if executor not in (LOCAL, *remote_executors()):
        names = ", ".join(sorted({LOCAL, *remote_executors()}))
        return [
            Error(
                f"CHRONIKER_EXECUTOR is {executor!r}, which does not exist.",
                hint=f"Set it to one of {names}, or add it to CHRONIKER_EXECUTORS.",
                id="chroniker.E004",
            )
        ]
    problems = {name: _import_problem(path) for name, path in own.items()}
    if executor == CELERY and CELERY not in own:
        problems[CELERY] = "" if find_spec("celery") else "Celery is not installed"
        if not problems[CELERY] and conf.CELERY_APP:
            problems[CELERY] = _import_problem(conf.CELERY_APP)
    return [
        Error(
            f"The executor {name!r} cannot be used: {problem}.",
            hint="Install chroniker[celery], and see CHRONIKER_EXECUTOR, CHRONIKER_EXECUTORS and "
            "CHRONIKER_CELERY_APP.",
            id="chroniker.E027",
        )
        for name, problem in problems.items()
        if problem
    ]


def _import_problem(path: str) -> str:
    """Why something cannot be imported by its dotted path; empty if it can."""
    try:
        import_string(path)
    except Exception as error:  # the site's module may raise anything
        return f"{type(error).__name__}: {error}"
    return ""


SITE_CHECKS = (check_executors,)
"""What the app registers."""
