"""Histograms that are stored in the database."""

from __future__ import annotations

from collections.abc import Mapping

from chroniker.conf import conf


def add_observation(buckets: Mapping[str, int], seconds: float) -> dict[str, int]:
    """Return ``buckets`` with one more observation in the smallest bucket that contains it.

    Keys are upper bounds in seconds as text; values are not cumulative. An observation above every
    bound is in no bucket; only the count that is stored with them includes it.
    """
    for bound in sorted(conf.METRICS_DURATION_BUCKETS):
        if seconds <= bound:
            key = repr(float(bound))
            return {**buckets, key: buckets.get(key, 0) + 1}
    return dict(buckets)
