"""Jobs that wait for each other, as a picture: upstream on the left, the critical path marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chroniker.engine.chains import ChainStep

from . import formats

BOX_WIDTH, BOX_HEIGHT = 190, 44
_GAP_X, _GAP_Y, _MARGIN = 60, 14, 4
MAX_BOXES = 60
"""Jobs in one picture. Of larger chains, those nearest to the job are drawn."""
_MAX_NAME = 26


@dataclass(frozen=True, slots=True)
class Box:
    """A job."""

    pk: int
    name: str
    full_name: str
    detail: str
    x: int
    y: int
    critical: bool
    current: bool


@dataclass(frozen=True, slots=True)
class Arrow:
    """A dependency: the points of a path from upstream to downstream."""

    path: str
    critical: bool


@dataclass(frozen=True, slots=True)
class DependencyGraph:
    """The picture, and the same in words."""

    boxes: list[Box]
    arrows: list[Arrow]
    width: int
    height: int
    hidden: int
    """Jobs of the chain that are not drawn."""
    critical_path: str
    total: str


def draw_dependencies(steps: Sequence[ChainStep], current: int) -> DependencyGraph:
    """Place each job one column to the right of the last job it waits for.

    ``steps`` are in the order in which they start; ``current`` is the key of the page's job.
    """
    shown = _nearest(steps, current)
    columns: dict[int, int] = {}
    for step in shown:
        before = [columns[job.pk] for job in step.upstream_jobs if job.pk in columns]
        columns[step.job.pk] = max(before, default=-1) + 1
    rows: Counter[int] = Counter()
    places: dict[int, tuple[int, int]] = {}
    boxes = []
    for step in shown:
        column = columns[step.job.pk]
        x = _MARGIN + column * (BOX_WIDTH + _GAP_X)
        y = _MARGIN + rows[column] * (BOX_HEIGHT + _GAP_Y)
        rows[column] += 1
        places[step.job.pk] = x, y
        name = step.job.name
        boxes.append(
            Box(
                pk=step.job.pk,
                name=name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…",
                full_name=name,
                detail=formats.duration(step.expected_seconds),
                x=x,
                y=y,
                critical=step.critical,
                current=step.job.pk == current,
            )
        )
    critical = {step.job.pk for step in steps if step.critical}
    arrows = [
        Arrow(_curve(places[job.pk], places[step.job.pk]), {job.pk, step.job.pk} <= critical)
        for step in shown
        for job in step.upstream_jobs
        if job.pk in places
    ]
    return DependencyGraph(
        boxes=boxes,
        arrows=arrows,
        width=2 * _MARGIN + max(columns.values()) * (BOX_WIDTH + _GAP_X) + BOX_WIDTH,
        height=2 * _MARGIN + max(rows.values()) * (BOX_HEIGHT + _GAP_Y) - _GAP_Y,
        hidden=len(steps) - len(shown),
        critical_path=" → ".join(step.job.name for step in steps if step.critical),
        total=formats.duration(max(step.ends for step in steps)),
    )


def _nearest(steps: Sequence[ChainStep], current: int) -> list[ChainStep]:
    """The jobs with the fewest dependencies between them and the job of the page."""
    if len(steps) <= MAX_BOXES:
        return list(steps)
    neighbours: dict[int, set[int]] = {step.job.pk: set() for step in steps}
    for step in steps:
        for job in step.upstream_jobs:
            neighbours[step.job.pk].add(job.pk)
            neighbours[job.pk].add(step.job.pk)
    found, edge = {current}, [current]
    while edge and len(found) < MAX_BOXES:
        edge = [pk for known in edge for pk in sorted(neighbours[known]) if pk not in found]
        edge = list(dict.fromkeys(edge))[: MAX_BOXES - len(found)]
        found.update(edge)
    return [step for step in steps if step.job.pk in found]


def _curve(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + BOX_WIDTH, start[1] + BOX_HEIGHT // 2
    x2, y2 = end[0], end[1] + BOX_HEIGHT // 2
    bend = (x1 + x2) // 2
    return f"M{x1} {y1}C{bend} {y1} {bend} {y2} {x2} {y2}"
