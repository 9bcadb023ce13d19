"""Cycles and orders, compared with all permutations of small graphs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, permutations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from chroniker.schedules.dependencies import find_cycle, topological_order

quick = settings(max_examples=300, deadline=None)

Edges = list[tuple[int, int]]
keys = st.integers(0, 5)
arbitrary_edges = st.lists(st.tuples(keys, keys), max_size=10)


def respects(order: Sequence[int], edges: Edges) -> bool:
    """Whether each node comes after its upstream nodes."""
    place = {key: number for number, key in enumerate(order)}
    return all(place[b] < place[a] for a, b in edges if a in place and b in place)


@quick
@given(edges=arbitrary_edges)
@example(edges=[(3, 3)])
@example(edges=[(0, 1), (1, 0)])
def test_cycle_is_found_exactly_if_no_order_exists(edges: Edges) -> None:
    cycle = find_cycle(edges)

    possible = any(respects(order, edges) for order in permutations(range(6)))
    assert bool(cycle) != possible
    if cycle:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1 >= 1
        assert set(pairwise(cycle)) <= set(edges), "each waits for the next"


@quick
@given(given_order=st.permutations(range(5)), edges=arbitrary_edges)
@example(given_order=[1, 2, 3, 4, 0], edges=[(1, 2)])
def test_order_is_the_smallest_that_respects_the_dependencies(
    given_order: list[int], edges: Edges
) -> None:
    # permutations() keeps the order of its argument: the first match is the smallest.
    wanted = next((order for order in permutations(given_order) if respects(order, edges)), None)

    assert topological_order(given_order, edges) == list(wanted or given_order)


def test_duplicate_keys_come_once() -> None:
    assert topological_order(["b", "a", "b"], [("b", "a")]) == ["a", "b"]


def test_empty_graph_has_no_cycle() -> None:
    assert find_cycle([]) == []
    assert topological_order([], [("a", "b")]) == []


def test_long_chain_needs_no_deep_recursion() -> None:
    edges = [(number, number + 1) for number in range(20_000)]

    assert find_cycle(edges) == []
    assert topological_order(range(20_001), edges) == list(range(20_000, -1, -1))
    assert len(find_cycle([*edges, (20_000, 0)])) == 20_002
