"""Histograms that are kept in the database, one observation at a time."""

from __future__ import annotations

from collections.abc import Mapping

from chroniker.conf import conf


def add_observation(buckets: Mapping[str, int], seconds: float) -> dict[str, int]:
    """``buckets`` with one more observation in the smallest that holds it.

    Keys are upper bounds in seconds as text, values are not cumulative. What lies above every
    bound is in no bucket; it is in the count that is kept beside them.
    """
    for bound in sorted(conf.METRICS_DURATION_BUCKETS):
        if seconds <= bound:
            key = repr(float(bound))
            return {**buckets, key: buckets.get(key, 0) + 1}
    return dict(buckets)
