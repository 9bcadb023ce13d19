"""The page /metrics with very many jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor

NOTE = (
    "a page with 10,000 jobs and histograms: cold (without a previous scrape) and warm (1 % of the "
    "jobs changed), against fetching the rows and joining the same text from strings; "
    "prometheus_client's generate_latest over the same families, against the cold page; peak "
    "memory by tracemalloc while two pages are rendered."
)
RUN_ONCE = False
FEW, MANY = 10, 10_000
ROUNDS = 3
COLD = Limit(1.5, informative=True)
WARM = Limit(0.5, informative=True)
CLIENT = Limit(8, at_least=True, informative=True)
MEMORY = Limit(6, informative=True)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure time, memory and queries of a page."""
    measured = database.call(measure)
    page = measured["page"] / 1e6
    pairs = {
        name: [PairedValue(*pair) for pair in measured[name]] for name in ("cold", "warm", "client")
    }
    few, many = measured["queries"]
    return [
        compare_with_floor(f"cold page, {MANY:,} jobs", "s", pairs["cold"], COLD),
        compare_with_floor("warm page, 1 % changed", "s", pairs["warm"], WARM),
        compare_with_floor("prometheus_client, to the cold page", "s", pairs["client"], CLIENT),
        compare_with_floor(
            "memory to the page", "MB", [PairedValue(measured["memory"] / 1e6, page)], MEMORY
        ),
        Figure(f"queries, {FEW} jobs", few),
        Figure(f"queries, {MANY:,} jobs", many, limit=Limit(few, informative=True)),
    ]


# --- in a worker ----------------------------------------------------------------------------


def measure() -> dict[str, Any]:
    """Return seconds, bytes, and numbers of queries."""
    from prometheus_client import generate_latest

    from chroniker_monitors.collector.prometheus import current_config, metrics
    from chroniker_monitors.exposition.renderer import Renderer
    from tests.support import scrape_times as speed

    databases.empty()
    speed.populate(FEW)
    queries = [_queries(speed.read_snapshot)]
    speed.populate(MANY - FEW)
    queries.append(_queries(speed.read_snapshot))
    config = current_config()
    lines = [
        (sample.name, ",".join(f'{k}="{v}"' for k, v in sample.labels.items()), sample.value)
        for metric in metrics(speed.read_snapshot(), config)
        for sample in metric.samples
    ]
    found: dict[str, Any] = {"queries": queries, "cold": [], "warm": [], "client": []}
    renderer = Renderer(config)
    found["page"] = len(speed.page(renderer))

    def plain() -> None:
        speed.fetch_all()
        "".join([f"{name}{{{labels}}} {value}\n" for name, labels, value in lines]).encode()

    for number in range(ROUNDS):
        speed.change(MANY // 100)
        floor = _seconds(plain)
        cold = _seconds(lambda: speed.page(Renderer(config)))
        found["cold"].append((cold, floor))
        found["warm"].append((_seconds(lambda: speed.page(renderer)), floor))
        if not number:
            client = _seconds(lambda: generate_latest(speed._Registry(config)))
            found["client"].append((client, cold))
    lines.clear()
    found["memory"] = speed.memory(config)
    return found


def _queries(call: Callable[[], object]) -> int:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        call()
    return len(captured)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
