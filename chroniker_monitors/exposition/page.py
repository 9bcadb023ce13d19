"""The whole page: Chroniker's families, then those of all other collectors."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry, multiprocess
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

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
"""A registry for a site's own collectors, which are exported in every mode. In multiprocess mode
(``PROMETHEUS_MULTIPROC_DIR``), custom collectors on prometheus_client's default registry are
missing from the page; only prometheus_client's own metric classes work there."""

_NOTHING = MetricsConfig((), False)
"""For the page of a site whose database does not answer."""
_renderers: dict[MetricsConfig, Renderer] = {}
_lock = threading.Lock()


class _FamilyList(Collector):
    """A collector of families that already exist."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def page(form: Format) -> bytes:
    """Return the page ``/metrics`` in this format."""
    return b"".join([*_chroniker_chunks(take_snapshot(), form), *_other_chunks(form), form.end])


def render_chroniker_page() -> tuple[bytes, bool]:
    """Return Chroniker's families alone, in the text format, and whether the database answered."""
    snapshot = take_snapshot()
    return b"".join(_chroniker_chunks(snapshot, TEXT)), snapshot.up


def _chroniker_chunks(snapshot: Snapshot, form: Format) -> list[bytes]:
    """Render Chroniker's families; only those of the collector if the database did not answer."""
    if snapshot.up:
        try:
            config = current_config()
            pieces = _renderer(config)(snapshot, form)
            return [*pieces, form.generate(_FamilyList(site_metrics(snapshot, config)))]
        except Exception:
            logger.exception("Chroniker's metrics could not be rendered")
            snapshot = Snapshot(seconds=snapshot.seconds)
    return [form.generate(_FamilyList(site_metrics(snapshot, _NOTHING)))]


def _renderer(config: MetricsConfig) -> Renderer:
    """Return the renderer for this configuration. Caches of other configurations are dropped."""
    with _lock:
        if config not in _renderers:
            _renderers.clear()
            _renderers[config] = Renderer(config)
        return _renderers[config]


def _other_chunks(form: Format) -> Iterator[bytes]:
    """Render the metrics of django-prometheus, of the process, and of the site's own collectors.

    Each collector is rendered separately: one that raises is logged and left out.
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


def _collectors() -> Iterator[Collector]:
    """Yield all other collectors. In multiprocess mode, one collector reads the files of all."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        try:
            yield multiprocess.MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        except ValueError:
            logger.exception("PROMETHEUS_MULTIPROC_DIR is not a directory; its metrics are missing")
    else:
        yield from _registered(REGISTRY)
    yield from _registered(registry)


def _registered(source: CollectorRegistry) -> Iterator[Collector]:
    """Yield a registry's collectors one by one, for which it has no public method."""
    if source.get_target_info():
        yield _FamilyList([source._target_info_metric()])  # type: ignore[no-untyped-call]
    with source._lock:
        collectors = list(source._collector_to_names)
    yield from (item for item in collectors if not isinstance(item, ChronikerCollector))
