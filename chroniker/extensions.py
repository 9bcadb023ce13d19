"""What other apps add to Chroniker, by dotted path: their code is imported when it is needed.

An app registers in ``AppConfig.ready()``, which every process of the site runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from .batches import BatchRunner
    from .models import Job

    Pages = Callable[[Job], Iterable[tuple[str, str]]]
    """Returns labels and URLs of further pages about a job."""

_runners: dict[str, str] = {}
_page_sources: list[str] = []


def register_batch_runner(name: str, path: str) -> None:
    """Register the class of the runner of the jobs whose ``batch`` is ``name``."""
    _runners[name] = path


@cache
def batch_runner(name: str) -> BatchRunner | None:
    """Return a runner; None if no installed app has registered it."""
    path = _runners.get(name)
    runner: BatchRunner | None = import_string(path)() if path else None
    return runner


def batch_names() -> list[str]:
    """Return the names of all runners."""
    return list(_runners)


def add_pages(path: str) -> None:
    """Let an app add links to the notifications of its jobs; ``path`` is that of a function."""
    if path not in _page_sources:
        _page_sources.append(path)


def page_sources() -> Iterator[Pages]:
    """Yield the functions that know further pages about a job."""
    for path in _page_sources:
        yield import_string(path)
