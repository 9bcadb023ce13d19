"""Deletion of old runs, in batches."""

from __future__ import annotations

import time
from collections.abc import Mapping

from django.db.models import SET_NULL, ForeignObjectRel, Model, OuterRef, Q, Subquery, signals

from chroniker.db.alias import atomic, database
from chroniker.models import Job, OutputChunk, Run
from chroniker.models.run import RunQuerySet

_DELETE_BATCH = 500
_PRUNE_BATCH = 100
"""Jobs whose runs are deleted together."""
_PRUNE_SECONDS = 1.0
"""How long a scheduler deletes runs at one time. What is left is deleted the next time."""


def prune_runs(job: Job, keep: int) -> int:
    """Delete the ended runs of a job beyond the newest ``keep``; returns their number.

    It stops after a second: a scheduler has other things to do.
    """
    newest_gone = (
        Run.objects.filter(job=job).order_by("-id").values_list("pk", flat=True)[keep : keep + 1]
    )
    last = next(iter(newest_gone), None)
    if not last:
        return 0
    return delete_runs(Run.objects.ended().filter(job=job, pk__lte=last), _PRUNE_SECONDS)


def prune_jobs(jobs: Mapping[int, int]) -> int:
    """The same for many jobs at once: primary key of the job to how many runs it keeps."""
    by_number: dict[int, list[int]] = {}
    for job, keep in jobs.items():
        by_number.setdefault(keep, []).append(job)
    give_up_at = time.monotonic() + _PRUNE_SECONDS
    return sum(
        _prune_together(keys[at : at + _PRUNE_BATCH], keep, give_up_at - time.monotonic())
        for keep, keys in by_number.items()
        for at in range(0, len(keys), _PRUNE_BATCH)
        if time.monotonic() < give_up_at
    )


def _prune_together(jobs: list[int], keep: int, seconds: float) -> int:
    newest_gone = Run.objects.filter(job=OuterRef("pk")).order_by("-id").values("pk")
    last = Subquery(newest_gone[keep : keep + 1])
    found = Job.objects.filter(pk__in=jobs).order_by("pk").annotate(last=last)
    wanted = Q()
    for job, run in found.values_list("pk", "last"):
        if run is not None:
            wanted |= Q(job=job, pk__lte=run)
    return delete_runs(Run.objects.ended().filter(wanted), seconds) if wanted else 0


def delete_runs(runs: RunQuerySet, seconds: float = float("inf")) -> int:
    """Delete runs and their output in small transactions, so that nothing waits long for it.

    It stops after ``seconds``. Returns the number of deleted runs.
    """
    give_up_at = time.monotonic() + seconds
    deleted = 0
    newest = 0
    known_references = _only_known_references()
    # From one key on: PostgreSQL would read the rows that were deleted before again and again.
    while keys := list(
        runs.filter(pk__gt=newest).order_by("pk").values_list("pk", flat=True)[:_DELETE_BATCH]
    ):
        _unlink_runs(keys)
        with atomic():
            _delete_rows(OutputChunk, "run_id", keys)
            if known_references:
                _delete_rows(Run, "id", keys)
            else:
                Run.objects.filter(pk__in=keys).delete()
        deleted += len(keys)
        newest = keys[-1]
        if time.monotonic() >= give_up_at:
            break
    return deleted


def _delete_rows(model: type[Model], column: str, keys: list[int]) -> None:
    """Delete rows by one statement. Django would take longer to write it than it takes to run."""
    connection = database()
    quote = connection.ops.quote_name
    marks = ", ".join(["%s"] * len(keys))
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {quote(model._meta.db_table)} WHERE {quote(column)} IN ({marks})",  # noqa: S608
            keys,
        )


def _only_known_references() -> bool:
    """Whether nothing of the site refers to runs or listens to their deletion.

    Django would read each run, and look for such rows, before it deletes one.
    """
    return not (
        signals.pre_delete.has_listeners(Run)
        or signals.post_delete.has_listeners(Run)
        or any(
            relation.related_model._meta.app_label not in ("chroniker", "chroniker_monitors")
            for relation in _references()
        )
    )


def _references() -> list[ForeignObjectRel]:
    """The foreign keys of all models to runs."""
    fields = Run._meta.get_fields(include_hidden=True)  # hidden: related_name="+"
    return [field for field in fields if isinstance(field, ForeignObjectRel)]


def _unlink_runs(runs: list[int]) -> None:
    """Clear references to runs that are about to be deleted, as SET_NULL would, one at a time.

    In the transaction that deletes the runs, a state whose next run is running would stay locked,
    and so would an incident that the end of that run may have to write.

    ``runs`` is sorted. Few rows refer to old runs, so that a range finds them faster than a list.
    """
    for relation in _references():
        if relation.on_delete is not SET_NULL:
            continue
        name = relation.field.name
        rows = relation.related_model._base_manager
        near = rows.filter(**{f"{name}__gte": runs[0], f"{name}__lte": runs[-1]})
        if found := set(near.values_list(name, flat=True)).intersection(runs):
            rows.filter(**{f"{name}__in": found}).update(**{name: None})
