"""The site of an experiment with Celery workers: its app, and an executor that notes its orders."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from celery import Celery, signals

from chroniker.executors.base import RunOrder
from chroniker.executors.celery import CeleryExecutor
from tests.faults.journal import DIRECTORY_VARIABLE
from tests.faults.workers import (
    ACKS_VARIABLE,
    BROKER_VARIABLE,
    MUTANT_VARIABLE,
    PREFETCH_VARIABLE,
)

VISIBILITY_SECONDS = 2
"""Shorter than many runs: Redis then delivers what is not acknowledged again."""

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.faults.settings")

app = Celery("faults")


def use_broker(url: str) -> None:
    """Let the app use a broker."""
    app.conf.broker_url = url
    app.conf.broker_transport_options = (
        {"visibility_timeout": VISIBILITY_SECONDS} if url.startswith("redis") else {}
    )


app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,
    task_acks_late=os.environ.get(ACKS_VARIABLE) == "late",
    worker_prefetch_multiplier=int(os.environ.get(PREFETCH_VARIABLE, "1")),
    worker_hijack_root_logger=False,
)
use_broker(os.environ[BROKER_VARIABLE])


@signals.worker_init.connect
def _apply_mutant(**kwargs: object) -> None:
    if name := os.environ.get(MUTANT_VARIABLE):
        import chroniker.engine.worker  # noqa: F401
        from tests.faults import mutants

        for edit in mutants.named(name).edits:
            mutants.apply(edit)


class NotingExecutor(CeleryExecutor):
    """Publishes some orders twice, and notes all of them, so that they can be delivered late."""

    def start(self, orders: Sequence[RunOrder]) -> Mapping[int, str]:
        file = Path(os.environ[DIRECTORY_VARIABLE], "orders.jsonl")
        with file.open("a") as lines:
            for order in orders:
                lines.write(json.dumps(order.dump()) + "\n")
        failed = dict(super().start(orders))
        twice = [order for order in orders if random.random() < 0.1 and not failed]
        if twice:
            super().start(twice)
        return failed


def noted_orders() -> list[RunOrder]:
    """All orders that were ever published."""
    file = Path(os.environ[DIRECTORY_VARIABLE], "orders.jsonl")
    lines = file.read_text().splitlines() if file.exists() else []
    return [RunOrder.load(json.loads(line)) for line in lines]
