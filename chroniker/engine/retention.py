"""Deletion of old runs, in batches."""

from __future__ import annotations

from django.db.models import SET_NULL, ForeignObjectRel

from chroniker.models import Job, OutputChunk, Run
from chroniker.models.run import RunQuerySet

_DELETE_BATCH = 500


def prune_runs(job: Job, keep: int) -> int:
    """Delete the ended runs of a job beyond the newest ``keep``; returns their number."""
    newest_gone = (
        Run.objects.filter(job=job).order_by("-id").values_list("pk", flat=True)[keep : keep + 1]
    )
    last = next(iter(newest_gone), None)
    return delete_runs(Run.objects.ended().filter(job=job, pk__lte=last)) if last else 0


def delete_runs(runs: RunQuerySet) -> int:
    """Delete runs and their output in small transactions, so that nothing waits long for it."""
    deleted = 0
    while keys := list(runs.order_by("pk").values_list("pk", flat=True)[:_DELETE_BATCH]):
        _unlink_runs(keys)
        OutputChunk.objects.filter(run__in=keys).delete()
        Run.objects.filter(pk__in=keys).delete()
        deleted += len(keys)
    return deleted


def _unlink_runs(runs: list[int]) -> None:
    """Clear references to runs that are about to be deleted, as SET_NULL would, one at a time.

    In the transaction that deletes the runs, a state whose next run is running would stay locked,
    and so would an incident that the end of that run may have to write.
    """
    for relation in Run._meta.get_fields(include_hidden=True):  # hidden: related_name="+"
        if isinstance(relation, ForeignObjectRel) and relation.on_delete is SET_NULL:
            name = relation.field.name
            pointing = relation.related_model._base_manager.filter(**{f"{name}__in": runs})
            pointing.update(**{name: None})
