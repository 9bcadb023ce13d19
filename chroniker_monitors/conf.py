"""Settings of the metrics; read when they are used, as in :mod:`chroniker.conf`.

The bounds of the histograms, ``CHRONIKER_METRICS_DURATION_BUCKETS``, are the scheduler's: it
counts by them.
"""

from __future__ import annotations

from typing import Any

from chroniker.conf import Setting, setting


class Conf:
    """The settings of the metrics with their defaults."""

    METRICS_TOKEN = setting(
        "",
        str,
        doc="What a scraper must send as `Authorization: Bearer …`. Empty: none is asked for, and "
        "the address decides.",
    )
    METRICS_ALLOWED_NETWORKS: tuple[str, ...] = setting(
        (),
        list,
        tuple,
        set,
        frozenset,
        doc="Without a token: networks (CIDR) that may scrape, beside loopback.",
    )
    METRICS_MAX_JOBS = setting(
        10_000,
        int,
        doc="Jobs on the page, the oldest first. chroniker_collector_dropped_jobs counts the "
        "others.",
        minimum=1,
    )
    METRICS_HISTOGRAMS = setting(True, bool, doc="Whether the histograms are on the page.")
    METRICS_TIMEOUT_SECONDS = setting(
        2,
        int,
        float,
        doc="How long the database may take; after that the page says chroniker_collector_up 0.",
        minimum=0.1,
    )


conf = Conf()


def all_settings() -> list[Setting[Any]]:
    """Every setting, for system checks and documentation."""
    return [value for value in vars(Conf).values() if isinstance(value, Setting)]
