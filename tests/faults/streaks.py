"""How often in a row the slots of a job have failed, as the history of its runs tells it.

A slot has failed when its last attempt has: while a retry is due, it may still succeed. A slot
whose retry is superseded by the next slot has failed, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from tests.faults.history import RunChange, RunFacts

Placement = tuple[int, str]
"""Key of the job, and the placement."""
_BROKEN = ("failed", "timed_out", "lost")


def failed_slots_in_a_row(
    changes: Iterable[RunChange],
    max_retries: Mapping[int, int],
    interrupted: set[tuple[int, str, int, int]],
) -> Counter[Placement]:
    """Count for each placement. ``interrupted``: job, placement, slot and attempt of such runs."""
    found: Counter[Placement] = Counter()
    retry_of: dict[Placement, int] = {}
    """The slot whose retry is due."""
    for change in changes:
        run = change.after
        state = run.job, run.host
        again = (*state, run.slot, run.attempt - 1) in interrupted
        if change.before is None and state in retry_of:
            scheduled = run.trigger == "schedule" and not again
            if scheduled and run.slot != retry_of[state]:
                found[state] += 1
                del retry_of[state]
            elif run.slot == retry_of[state]:
                del retry_of[state]
        if change.before != "running":
            continue
        if run.status == "succeeded":
            found[state] = 0
        elif run.status not in _BROKEN:
            continue
        elif _is_retried(run, max_retries.get(run.job, 0), interrupted):
            retry_of[state] = run.slot
        else:
            found[state] += 1
    return found


def _is_retried(run: RunFacts, most: int, interrupted: set[tuple[int, str, int, int]]) -> bool:
    """Whether a failed run is tried again. A run that was interrupted spent no retry."""
    slot = run.job, run.host, run.slot
    free = sum((*slot, attempt) in interrupted for attempt in range(1, run.attempt))
    return run.trigger != "manual" and run.attempt - 1 - free < most
