"""Searching and counting a million runs: no query reads the whole table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property
from django.utils.text import smart_split, unescape_string_literal

from chroniker.models import Job, Run

MAX_COUNTED = 10_000
"""How many runs a list counts, and has pages for."""
_MAX_JOBS = 100
_QUOTES = ('"', "'")


if TYPE_CHECKING:
    RunPaginator = Paginator[Run]
else:
    RunPaginator = Paginator


class BoundedPaginator(RunPaginator):
    """Counts no further than :data:`MAX_COUNTED`: the newest runs come first."""

    @cached_property
    def count(self) -> int:
        """The number of runs, or that maximum."""
        return min(self._found, MAX_COUNTED)

    @property
    def has_more(self) -> bool:
        """Whether there are more than are counted."""
        return self._found > MAX_COUNTED

    @cached_property
    def _found(self) -> int:
        assert isinstance(self.object_list, QuerySet)
        rows = self.object_list.order_by().select_related(None)
        return rows.values("pk")[: MAX_COUNTED + 1].count()


def search_runs(runs: QuerySet[Run], text: str) -> QuerySet[Run]:
    """The runs of the jobs whose name contains every word or, if there is none, by their error.

    One or the other: a condition on both tables could use no index.
    """
    words = _words(text)
    if not words:
        return runs
    jobs = Job.objects.order_by()
    for word in words:
        jobs = jobs.filter(name__icontains=word)
    keys = list(jobs.values_list("pk", flat=True)[: _MAX_JOBS + 1])
    if len(keys) == 1:
        return runs.filter(job=keys[0])
    if len(keys) > _MAX_JOBS:
        return runs.filter(job__in=jobs)
    if keys:
        return runs.filter(job__in=keys)
    failed = runs.exclude(error="")  # the condition of the index that the documentation suggests
    for word in words:
        failed = failed.filter(error__icontains=word)
    return failed


def _words(text: str) -> list[str]:
    """The words; what is in quotes is one."""
    found = []
    for word in smart_split(text):
        quoted = word[0] in _QUOTES and word[0] == word[-1]
        found.append(unescape_string_literal(word) if quoted else word)
    return found
