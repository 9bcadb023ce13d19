"""The remote executors by name."""

from __future__ import annotations

from typing import cast

from django.utils.module_loading import import_string

from chroniker.conf import CELERY, conf
from chroniker.exceptions import ExecutorNotReady

from .base import RemoteExecutor

_CELERY = "chroniker.executors.celery.CeleryExecutor"


def make_remote_executor(name: str) -> RemoteExecutor:
    """Make a remote executor. Raises ExecutorNotReady if its class cannot be used."""
    path = conf.EXECUTORS.get(name) or (_CELERY if name == CELERY else "")
    if not path:
        raise ExecutorNotReady(f"There is no executor “{name}”; see CHRONIKER_EXECUTORS.")
    try:
        return cast("RemoteExecutor", import_string(path)())
    except Exception as error:  # whatever the site's class raises
        raise ExecutorNotReady(f"{path} cannot be used: {error}") from error
