"""Histograms that are kept as JSON."""

from __future__ import annotations

import json
import math
from bisect import bisect_left

from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from chroniker.conf import conf
from chroniker.db.histograms import add_observation


@given(seconds=st.floats(0, 1e6))
def test_observation_counts_in_the_smallest_fitting_bucket(seconds: float) -> None:
    bounds = sorted(conf.METRICS_DURATION_BUCKETS)
    place = bisect_left(bounds, seconds)

    wanted = {repr(float(bounds[place])): 1} if place < len(bounds) else {}
    assert add_observation({}, seconds) == wanted


@given(st.lists(st.floats(0, 1e5), max_size=30))
def test_no_observation_below_the_highest_bound_is_lost(durations: list[float]) -> None:
    buckets: dict[str, int] = {}
    for seconds in durations:
        # As the database gives them back.
        buckets = add_observation(json.loads(json.dumps(buckets)), seconds)

    assert sum(buckets.values()) == sum(s <= max(conf.METRICS_DURATION_BUCKETS) for s in durations)


def test_earlier_counts_are_not_changed() -> None:
    before = {"0.1": 1, "60.0": 2}

    after = add_observation(before, 42)

    assert after == {"0.1": 1, "60.0": 3}
    assert before == {"0.1": 1, "60.0": 2}
    assert add_observation(before, 1e9) == before


def test_removed_bounds_keep_their_counts() -> None:
    with override_settings(CHRONIKER_METRICS_DURATION_BUCKETS=[300, 7]):
        assert add_observation({"60.0": 5}, 6.5) == {"60.0": 5, "7.0": 1}
        assert add_observation({"60.0": 5}, 7.5) == {"60.0": 5, "300.0": 1}


def test_whole_and_fractional_bounds_have_one_spelling() -> None:
    with override_settings(CHRONIKER_METRICS_DURATION_BUCKETS=(5,)):
        whole = add_observation({}, 1)
    with override_settings(CHRONIKER_METRICS_DURATION_BUCKETS=(5.0, math.inf)):
        assert add_observation(whole, 1) == {"5.0": 2}
        assert add_observation(whole, 6) == {"5.0": 1, "inf": 1}


@given(
    st.lists(st.floats(0.001, 1e7, allow_nan=False), min_size=2, max_size=2, unique=True).map(
        sorted
    )
)
def test_two_bounds_are_two_buckets(bounds: list[float]) -> None:
    low, high = bounds
    with override_settings(CHRONIKER_METRICS_DURATION_BUCKETS=bounds):
        buckets = add_observation(add_observation({}, low), high)

    assert sorted(buckets.values()) == [1, 1]
