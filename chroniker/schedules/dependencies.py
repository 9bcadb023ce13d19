"""The order in which jobs wait for one another; pure functions over pairs of keys."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def find_cycle(edges: Iterable[tuple[K, K]]) -> list[K]:
    """A circle among ``(downstream, upstream)`` pairs, its first member repeated at the end.

    Empty where there is none. Reads "each waits for the next".
    """
    try:
        _sorter(edges).prepare()
    except CycleError as error:
        path: list[K] = error.args[1]
        return path[::-1]  # graphlib names each before what waits for it
    return []


def topological_order(keys: Iterable[K], edges: Iterable[tuple[K, K]]) -> list[K]:
    """``keys`` so that each comes after what it waits for; otherwise in the order given.

    What waits for nothing (any more) comes in its turn, and not after all that wait for nothing.
    Edges to other keys are passed over. Where there is a circle (it was inserted behind the
    model's back) the order given is returned.
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
