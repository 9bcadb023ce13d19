"""The job that benchmarks.progress measures."""

from __future__ import annotations

import json
import time

from django.core.management.base import BaseCommand, CommandParser

from chroniker.models import Job

_ROUNDS = 10


class Command(BaseCommand):
    help = "Report progress very often, then print how long a call took."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("calls", type=int)

    def handle(self, *args: object, calls: int, **options: object) -> None:
        turn = calls // _ROUNDS
        pairs = []
        for number in range(_ROUNDS):
            parts = range(number * turn + 1, (number + 1) * turn + 1)
            empty = _time_empty(calls, parts)
            pairs.append((_time_update(calls, parts) / turn * 1e6, empty / turn * 1e6))
        self.stdout.write(json.dumps(pairs))


def _time_update(total: int, parts: range) -> float:
    began = time.perf_counter()
    for part in parts:
        Job.update_progress(total_parts=total, total_parts_complete=part)
    return time.perf_counter() - began


def _time_empty(total: int, parts: range) -> float:
    began = time.perf_counter()
    for part in parts:
        _empty(total_parts=total, total_parts_complete=part)
    return time.perf_counter() - began


def _empty(total_parts: int = 0, total_parts_complete: int = 0) -> None:
    pass
