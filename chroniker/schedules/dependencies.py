"""Order and cycles of dependencies: pure functions over pairs of keys."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def find_cycle(edges: Iterable[tuple[K, K]]) -> list[K]:
    """Return a cycle among ``(downstream, upstream)`` pairs, the first key repeated at the end.

    Empty if there is none. In the list, each job waits for the next one.
    """
    try:
        _sorter(edges).prepare()
    except CycleError as error:
        path: list[K] = error.args[1]
        return path[::-1]  # graphlib lists upstream before downstream
    return []


def topological_order(keys: Iterable[K], edges: Iterable[tuple[K, K]]) -> list[K]:
    """Return ``keys`` with each key after its upstreams, and otherwise in the given order.

    A key whose upstreams are all listed takes its place in the given order at once; it does not
    wait for every key without upstreams. Edges to other keys are ignored. If there is a cycle
    (inserted without the model's validation), the given order is returned.
    """
    position = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    inner = [(a, b) for a, b in edges if a in position and b in position]
    sorter = _sorter(inner)
    for key in position:
        sorter.add(key)
    try:
        sorter.prepare()
    except CycleError:
        return list(position)
    ordered: list[K] = []
    given = list(position)
    ready: list[int] = []
    while sorter.is_active():
        for key in sorter.get_ready():
            heappush(ready, position[key])
        ordered.append(given[heappop(ready)])
        sorter.done(ordered[-1])
    return ordered


def _sorter(edges: Iterable[tuple[K, K]]) -> TopologicalSorter[K]:
    sorter: TopologicalSorter[K] = TopologicalSorter()
    for downstream, upstream in edges:
        sorter.add(downstream, upstream)
    return sorter
