"""The ends of runs that shared a process, written together: each state once, with what they gave.

What holds for one end (``completion``) holds for each of them: it is written by the holder of its
token, or not at all. What the runs gave is recorded by their batch runner in the same transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db import DatabaseError, InterfaceError, connections

from chroniker.batches import BatchEnd, BatchRunner
from chroniker.db.alias import atomic
from chroniker.db.bulk import Increase, lock_owned, update_rows
from chroniker.db.clock import StatementNow
from chroniker.enums import RunStatus
from chroniker.extensions import batch_runner
from chroniker.logs import log_context
from chroniker.models import JobState, Run

from .completion import (
    FinishedRun,
    end_unlocked_runs,
    run_changes,
    state_changes,
    write_consequences,
)

logger = logging.getLogger(__name__)


def end_runs(waiting: Sequence[FinishedRun], *, only_if_stale: bool = False) -> list[bool | None]:
    """Write the ends of runs. Call it in a transaction.

    True: written; False: the token does not own the state any more; None: it must wait for the
    lock of another transaction. ``only_if_stale`` as for ``end_run()``.
    """
    together = [ended for ended in waiting if ended.batch and not ended.has_downstream]
    alone = [ended for ended in waiting if not (ended.batch and not ended.has_downstream)]
    done: dict[int, bool | None] = {}
    if alone:
        found = end_unlocked_runs(alone, only_if_stale=only_if_stale)
        done.update((id(ended), one) for ended, one in zip(alone, found, strict=True))
    if together:
        done.update(_end_together(together, only_if_stale=only_if_stale))
    _record([ended for ended in waiting if ended.batch and done[id(ended)]])
    return [done[id(ended)] for ended in waiting]


def _end_together(ends: list[FinishedRun], *, only_if_stale: bool) -> dict[int, bool | None]:
    """Write the ends that own their state, by ``id()`` of each end."""
    tokens = list({ended.token for ended in ends})
    owned = JobState.objects.owned_by(tokens)
    if only_if_stale:
        owned = owned.filter(lease_expires_at__lt=StatementNow())
    owned = owned.filter(pk__in=[ended.state.pk for ended in ends])
    free = set(lock_owned(JobState, owned, "pk", "lease_token"))
    mine = [ended for ended in ends if (ended.state.pk, ended.token) in free]
    locked: set[tuple[int, str | None]] = set()
    features = connections[JobState.objects.all().db].features
    if len(mine) < len(ends) and features.has_select_for_update_skip_locked:
        locked = set(owned.order_by().values_list("pk", "lease_token")) - free
    update_rows(JobState, [(ended.state.pk, state_changes(ended, _increase)) for ended in mine])
    update_rows(
        Run,
        [(ended.run.pk, run_changes(ended)) for ended in mine],
        only={"status": RunStatus.RUNNING},
    )
    for ended in mine:
        write_consequences(ended)
    done: dict[int, bool | None] = dict.fromkeys(map(id, ends), False)
    done.update(dict.fromkeys(map(id, mine), True))
    for ended in ends:
        if (ended.state.pk, ended.token) in locked:
            done[id(ended)] = None
    return done


def _increase(name: str, number: float) -> Increase:
    return Increase(number)


def _record(ends: list[FinishedRun]) -> None:
    """Let the batch runners record what the runs gave."""
    by_runner: dict[str, list[BatchEnd]] = {}
    for ended in ends:
        outcome = ended.outcome
        by_runner.setdefault(ended.batch, []).append(
            BatchEnd(
                job=ended.job,
                run=ended.run,
                status=outcome.status,
                error=outcome.error,
                seconds=outcome.seconds,
                payload=ended.payload,
                ended_at=ended.ended_at,
            )
        )
    for name, batch in by_runner.items():
        runner = batch_runner(name)
        if runner is None:
            continue
        try:
            _record_safely(runner, batch)
        except Exception as error:
            if isinstance(error, DatabaseError | InterfaceError):
                raise  # of the whole transaction
            logger.warning(
                "Runner %s cannot record its runs together: %r", name, error, extra=log_context()
            )
            for end in batch:
                _record_alone(runner, end)


def _record_safely(runner: BatchRunner, ends: Sequence[BatchEnd]) -> None:
    """Undo what it has written if it raises."""
    with atomic():
        runner.record(ends)


def _record_alone(runner: BatchRunner, end: BatchEnd) -> None:
    """A run for which the runner raises ends without a record: it must not keep others running."""
    try:
        _record_safely(runner, [end])
    except Exception as error:
        if isinstance(error, DatabaseError | InterfaceError):
            raise
        context = log_context(job=end.job.name, run=end.run.pk, host=end.run.ran_on)
        logger.exception(
            "What run %s of job %s gave was not recorded", end.run.pk, end.job.name, extra=context
        )
