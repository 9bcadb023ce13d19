"""Chains of dependent jobs: order, expected times, critical path."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chroniker.engine.chains import build_chain, compute_times, critical_path, load_with_durations
from chroniker.enums import RunStatus
from chroniker.models import Job, JobDependency
from tests.factories import make_job, make_run

quick = settings(max_examples=100, deadline=None)

Edges = list[tuple[int, int]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[int], Edges, dict[int, float]]:
    """Nodes in an order with upstream first, edges ``(downstream, upstream)``, seconds."""
    order = draw(st.permutations(range(draw(st.integers(0, 6)))))
    pairs = [(b, a) for place, a in enumerate(order) for b in order[place + 1 :]]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return order, edges, {key: float(draw(st.integers(0, 9))) for key in order}


def expected_seconds_of(job: Job) -> float | None:
    return load_with_durations([job.pk])[1][job.pk]


def paths_to(key: int, edges: Edges) -> list[list[int]]:
    """Every path that ends at ``key``, enumerated."""
    before = [upstream for downstream, upstream in edges if downstream == key]
    return [[key], *([*path, key] for other in before for path in paths_to(other, edges))]


@quick
@given(graph=graphs())
def test_job_ends_when_the_longest_path_to_it_has_been_run(
    graph: tuple[list[int], Edges, dict[int, float]],
) -> None:
    order, edges, seconds = graph
    times = compute_times(order, edges, seconds)
    assert list(times) == order
    for key, (starts, ends) in times.items():
        assert ends - starts == seconds[key]
        assert ends == max(sum(seconds[each] for each in path) for path in paths_to(key, edges))


@quick
@given(graph=graphs())
def test_critical_path_is_a_longest_path_without_pauses(
    graph: tuple[list[int], Edges, dict[int, float]],
) -> None:
    order, edges, seconds = graph
    times = compute_times(order, edges, seconds)
    path = critical_path(times, edges)
    assert bool(path) == bool(order)
    if path:
        assert times[path[-1]][1] == max(ends for _, ends in times.values())
        assert sum(seconds[key] for key in path) == times[path[-1]][1]
        assert times[path[0]][0] == 0
        for first, then in pairwise(path):
            assert (then, first) in edges
            assert times[first][1] == times[then][0]


def test_critical_path_of_a_stored_cycle_ends() -> None:
    assert sorted(critical_path({1: (0, 5), 2: (5, 9)}, [(1, 2), (2, 1)])) == [1, 2]


@pytest.mark.django_db
class TestBuildChain:
    def connect(self, *pairs: tuple[Job, Job]) -> None:
        """``(upstream, downstream)``."""
        for upstream, downstream in pairs:
            JobDependency.objects.create(upstream=upstream, downstream=downstream)

    def test_chain_has_what_comes_before_and_after_and_no_other_branch(self) -> None:
        first, middle, last = (make_job(name=name, expected_seconds=10) for name in "abc")
        branch, unrelated = make_job(name="branch"), make_job(name="unrelated")
        self.connect((first, middle), (middle, last), (first, branch))
        assert [step.job for step in build_chain(middle)] == [first, middle, last]
        assert [step.job for step in build_chain(branch)] == [first, branch]
        assert [step.job for step in build_chain(unrelated)] == [unrelated]

    def test_step_has_times_upstream_jobs_and_whether_it_is_critical(self) -> None:
        first = make_job(name="first", expected_seconds=10)
        slow, fast = make_job(name="slow", expected_seconds=60), make_job(name="fast")
        last = make_job(name="last", expected_seconds=5)
        self.connect((first, slow), (first, fast), (slow, last), (fast, last))
        steps = {step.job.name: step for step in build_chain(first)}
        assert sorted(steps, key=lambda name: steps[name].starts)[-1] == list(steps)[-1] == "last"
        assert [steps[name].critical for name in ("first", "slow", "fast", "last")] == [
            True, True, False, True,
        ]  # fmt: skip
        assert (steps["slow"].starts, steps["slow"].ends) == (10, 70)
        assert (steps["fast"].starts, steps["fast"].ends) == (10, 10)
        assert steps["fast"].expected_seconds is None
        assert (steps["last"].starts, steps["last"].ends) == (70, 75)
        assert set(steps["last"].upstream_jobs) == {slow, fast}
        assert steps["first"].upstream_jobs == ()

    def test_jobs_that_may_start_together_are_in_the_order_of_their_names(self) -> None:
        first = make_job(name="m")
        others = [make_job(name=name) for name in ("z", "a", "k")]
        self.connect(*((first, other) for other in others))
        assert [step.job.name for step in build_chain(first)] == ["m", "a", "k", "z"]


@pytest.mark.django_db
class TestExpectedSeconds:
    def test_median_of_the_last_twenty_successful_runs(self) -> None:
        job = make_job(expected_seconds=1)
        for seconds in [900.0] * 30 + [10.0] * 10 + [20.0] * 10:
            make_run(job, duration_seconds=seconds)
        make_run(job, duration_seconds=5000.0, status=RunStatus.FAILED)
        make_run(job, duration_seconds=None)
        make_run(make_job(), duration_seconds=5000.0)
        assert expected_seconds_of(job) == 15.0
        make_run(job, duration_seconds=20.0)
        assert expected_seconds_of(job) == 20.0

    def test_definition_counts_before_the_first_success(self) -> None:
        job = make_job(expected_seconds=30)
        make_run(job, duration_seconds=5.0, status=RunStatus.FAILED)
        assert expected_seconds_of(job) == 30.0
        assert expected_seconds_of(make_job()) is None
