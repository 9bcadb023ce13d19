"""How the last runs of jobs ended, as a strip in the size of a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from django.db.models import BooleanField, Expression, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from chroniker.enums import RunStatus
from chroniker.models import Run

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

OUTCOMES = 20
"""Runs in a strip."""

_WIDTH, _GAP, _HEIGHT = 5, 2, 16
_SIZES: dict[str, tuple[int, int]] = {
    RunStatus.SUCCEEDED: (8, 8),
    RunStatus.RUNNING: (4, 12),
    RunStatus.INTERRUPTED: (10, 6),
    RunStatus.STOPPED: (6, 10),
    RunStatus.MISSED: (12, 4),
}
"""Top and height of a bar. A failure is a whole bar, so colour is never the only sign."""


def newest_run_id(number: int = OUTCOMES, **conditions: object) -> Coalesce:
    """An annotation of jobs: the key of the run that is ``number`` from the newest, or 0."""
    nth = Run.objects.filter(job=OuterRef("pk"), **conditions).order_by("-id").values("id")
    return Coalesce(Subquery(nth[number - 1 : number]), 0)


class RunRanges(Expression):
    """Whether a run is one of the newest of its job: one range of an index for each job.

    The same with ``Q`` objects costs ten times as much to build as to execute.
    """

    conditional = True

    def __init__(self, first: Mapping[int, int]) -> None:
        super().__init__(output_field=BooleanField())
        self._first = dict(first)

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[int, ...]]:
        """One condition for each job."""
        table = connection.ops.quote_name(Run._meta.db_table)
        job, key = (connection.ops.quote_name(name) for name in ("job_id", "id"))
        condition = f"({table}.{job} = %s AND {table}.{key} >= %s)"
        params = tuple(number for pair in self._first.items() for number in pair)
        return f"({' OR '.join([condition] * len(self._first))})", params


def recent_outcomes(first: Mapping[int, int]) -> dict[int, list[str]]:
    """The statuses of the runs of each job from a key on, oldest first."""
    found: dict[int, list[str]] = {job: [] for job in first}
    if first:
        runs = Run.objects.filter(RunRanges(first)).order_by("-id")
        for job, status in runs.values_list("job", "status"):
            found[job].append(status)
    return {job: statuses[:OUTCOMES][::-1] for job, statuses in found.items()}


def outcome_strip(statuses: Sequence[str]) -> SafeString:
    """The strip; its label says the same in words."""
    return _strip(tuple(statuses), get_language())


@lru_cache(maxsize=1024)
def _strip(statuses: Sequence[str], language: str | None) -> SafeString:
    if not statuses:
        return format_html("<small>{}</small>", _("no runs"))
    places: dict[str, list[int]] = {}
    for number, status in enumerate(statuses):
        places.setdefault(status, []).append(number * (_WIDTH + _GAP))
    return format_html(
        '<svg class="chroniker-outcomes" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img"'
        ' aria-label="{2}"><title>{2}</title>{3}</svg>',
        OUTCOMES * (_WIDTH + _GAP),
        _HEIGHT,
        describe_outcomes(statuses),
        format_html_join(
            "",
            '<path class="chroniker-bar-{}" d="{}"/>',
            ((status, _bars(status, offsets)) for status, offsets in places.items()),
        ),
    )


def describe_outcomes(statuses: Iterable[str]) -> str:
    """For example ``18 succeeded, 2 failed``, the most frequent first."""
    counts = Counter(statuses)
    return ", ".join(
        f"{number} {RunStatus(status).label if status in RunStatus.values else status}"
        for status, number in counts.most_common()
    )


def _bars(status: str, offsets: Iterable[int]) -> str:
    top, height = _SIZES.get(status, (0, _HEIGHT))
    return "".join(f"M{x} {top}h{_WIDTH}v{height}h-{_WIDTH}z" for x in offsets)
