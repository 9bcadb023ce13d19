"""Deliberate defects in what happens between a scheduler and its workers."""

from __future__ import annotations

from typing import Any

_SCENARIO = "workers"
WORKER_MUTANTS: tuple[dict[str, Any], ...] = (
    {
        "name": "order_valid_twice",
        "meaning": "an order is valid after a worker has taken it",
        "expected": frozenset({"overlap", "journal", "stale write", "drift"}),
        "edits": (
            (
                "engine.orders:_queued",
                "JobState.objects.queued().filter(\n"
                "        lease_token=order.token, fence=order.fence, current_run=order.run\n    )",
                "JobState.objects.filter(current_run=order.run)",
            ),
        ),
        "options": {"seconds": 12, "only": "deliver_again"},
    },
    {
        "name": "order_forgotten",
        "meaning": "an order that nobody has taken is not published again",
        "expected": frozenset({"stuck"}),
        "edits": (
            (
                "engine.dispatch:Dispatcher._publish_again",
                "failed = self._start(queue.executor, [order])",
                "failed = {}",
            ),
        ),
        "options": {"seconds": 12, "only": "forget_messages"},
    },
    {
        "name": "slot_forgotten",
        "meaning": "the slot of an order that was withdrawn is not due again",
        "expected": frozenset({"slot"}),
        "edits": (("engine.orders:withdraw", "**_due_again(state, state.current_run),", ""),),
        "options": {"seconds": 30, "only": "kill_all_workers"},
    },
    {
        "name": "queued_is_lost",
        "meaning": "the run of an order that waits for a worker is recorded as lost",
        "expected": frozenset({"cause", "slot", "journal", "drift"}),
        "edits": (("engine.reaper:reap", ".exclude(lease_owner__startswith=QUEUED)", ""),),
        "options": {"seconds": 30, "only": "kill_all_workers"},
    },
)
