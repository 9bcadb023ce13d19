"""The whole page: Chroniker's families, then everybody else's."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, multiprocess
from prometheus_client.metrics_core import Metric

from chroniker_monitors.collector.metrics import NAMES, MetricsConfig
from chroniker_monitors.collector.prometheus import (
    ChronikerCollector,
    current_config,
    site_metrics,
)
from chroniker_monitors.collector.rows import Snapshot, take_snapshot

from .formats import TEXT, Format
from .renderer import Renderer

logger = logging.getLogger(__name__)

registry = CollectorRegistry(auto_describe=False)
"""For a site's own collectors. What is registered here is on the page in every mode; what a site
registers on prometheus_client's default registry is missing from it with several processes
(``PROMETHEUS_MULTIPROC_DIR``), unless it is one of prometheus_client's own metric classes."""

_renderers: dict[MetricsConfig, Renderer] = {}
_lock = threading.Lock()


class _FamilyList:
    """So much of a registry as prometheus_client's renderers need."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def page(form: Format) -> bytes:
    """What ``/metrics`` answers."""
    return b"".join([*_chroniker_chunks(take_snapshot(), form), *_other_chunks(form), form.end])


def render_chroniker_page() -> tuple[bytes, bool]:
    """Chroniker's families alone, as text, and whether the database answered."""
    snapshot = take_snapshot()
    return b"".join(_chroniker_chunks(snapshot, TEXT)), snapshot.up


def _chroniker_chunks(snapshot: Snapshot, form: Format) -> list[bytes]:
    """Chroniker's families; without those of jobs and hosts if the database did not answer."""
    if snapshot.up:
        try:
            pieces = _renderer(current_config())(snapshot, form)
            return [*pieces, form.generate(_FamilyList(site_metrics(snapshot)))]
        except Exception:
            logger.exception("Chroniker's metrics could not be written")
            snapshot = Snapshot(seconds=snapshot.seconds)
    return [form.generate(_FamilyList(site_metrics(snapshot)))]


def _renderer(config: MetricsConfig) -> Renderer:
    """The one whose pieces are of this contract; those of another are forgotten."""
    with _lock:
        if config not in _renderers:
            _renderers.clear()
            _renderers[config] = Renderer(config)
        return _renderers[config]


def _other_chunks(form: Format) -> Iterator[bytes]:
    """The metrics of django-prometheus, of the process, of the site.

    Each collector by itself: one that raises is missing from the page, and logged.
    """
    written = set(NAMES)
    for collector in _collectors():
        try:
            families = [family for family in collector.collect() if family.name not in written]
            text = form.generate(_FamilyList(families))
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
        yield _FamilyList([source._target_info_metric()])  # type: ignore[no-untyped-call]
    with source._lock:
        collectors = list(source._collector_to_names)
    yield from (item for item in collectors if not isinstance(item, ChronikerCollector))
