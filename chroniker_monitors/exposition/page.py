"""The whole page: Chroniker's families, then everybody else's."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, multiprocess
from prometheus_client.metrics_core import Metric

from chroniker_monitors.collector.families import NAMES, Contract
from chroniker_monitors.collector.prometheus import (
    ChronikerCollector,
    current_contract,
    other_metrics,
)
from chroniker_monitors.collector.rows import Snapshot, take_snapshot

from .formats import TEXT, Format
from .render import Renderer

logger = logging.getLogger(__name__)

registry = CollectorRegistry(auto_describe=False)
"""For a site's own collectors. What is registered here is on the page in every mode; what a site
registers on prometheus_client's default registry is missing from it with several processes
(``PROMETHEUS_MULTIPROC_DIR``), unless it is one of prometheus_client's own metric classes."""

_renderers: dict[Contract, Renderer] = {}
_lock = threading.Lock()


class _Families:
    """So much of a registry as prometheus_client's renderers need."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def page(form: Format) -> bytes:
    """What ``/metrics`` answers."""
    return b"".join([*_chronikers(take_snapshot(), form), *_others(form), form.end])


def chroniker_page() -> tuple[bytes, bool]:
    """Chroniker's families alone, as text, and whether the database answered."""
    snapshot = take_snapshot()
    return b"".join(_chronikers(snapshot, TEXT)), snapshot.up


def _chronikers(snapshot: Snapshot, form: Format) -> list[bytes]:
    """Chroniker's families; without those of jobs and hosts if the database did not answer."""
    if snapshot.up:
        try:
            pieces = _renderer(current_contract())(snapshot, form)
            return [*pieces, form.generate(_Families(other_metrics(snapshot)))]
        except Exception:
            logger.exception("Chroniker's metrics could not be written")
            snapshot = Snapshot(seconds=snapshot.seconds)
    return [form.generate(_Families(other_metrics(snapshot)))]


def _renderer(contract: Contract) -> Renderer:
    """The one whose pieces are of this contract; those of another are forgotten."""
    with _lock:
        if contract not in _renderers:
            _renderers.clear()
            _renderers[contract] = Renderer(contract)
        return _renderers[contract]


def _others(form: Format) -> Iterator[bytes]:
    """The metrics of django-prometheus, of the process, of the site.

    Each collector by itself: one that raises is missing from the page, and logged.
    """
    written = set(NAMES)
    for collector in _collectors():
        try:
            families = [family for family in collector.collect() if family.name not in written]
            text = form.generate(_Families(families))
        except Exception:
            logger.exception("A collector failed, and its metrics are missing: %r", collector)
            continue
        written |= {family.name for family in families}
        yield text


def _collectors() -> Iterator[Any]:
    """Several processes keep their metrics in files, which one collector reads."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        try:
            yield multiprocess.MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        except ValueError:
            logger.exception("PROMETHEUS_MULTIPROC_DIR is no directory; its metrics are missing")
    else:
        yield from _registered(REGISTRY)
    yield from _registered(registry)


def _registered(source: CollectorRegistry) -> Iterator[Any]:
    """A registry's collectors one by one, which it does not offer: it collects all or nothing."""
    if source.get_target_info():
        yield _Families([source._target_info_metric()])  # type: ignore[no-untyped-call]
    with source._lock:
        collectors = list(source._collector_to_names)
    yield from (item for item in collectors if not isinstance(item, ChronikerCollector))
