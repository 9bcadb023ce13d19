"""The picture of dependencies: columns, arrows and the critical path."""

from __future__ import annotations

from chroniker.admin.dependency_graph import MAX_BOXES, draw_dependencies
from chroniker.engine.chains import ChainStep
from chroniker.models import Job


def step(pk: int, *upstream: int, critical: bool = False, name: str = "") -> ChainStep:
    jobs = tuple(Job(pk=one, name=f"job {one}") for one in upstream)
    return ChainStep(Job(pk=pk, name=name or f"job {pk}"), jobs, 5.0, 0.0, 5.0 * pk, critical)


def test_each_job_is_right_of_all_that_it_waits_for() -> None:
    graph = draw_dependencies([step(1), step(2, 1), step(3), step(4, 2, 3)], current=4)
    x = {box.pk: box.x for box in graph.boxes}
    assert x[1] == x[3] < x[2] < x[4]
    assert len({(box.x, box.y) for box in graph.boxes}) == 4
    assert len(graph.arrows) == 3
    assert [box.pk for box in graph.boxes if box.current] == [4]
    assert all(box.x + 190 <= graph.width and box.y + 44 <= graph.height for box in graph.boxes)


def test_critical_path_is_marked_and_named() -> None:
    graph = draw_dependencies([step(1, critical=True), step(2, 1, critical=True), step(3)], 1)
    assert graph.critical_path == "job 1 → job 2"
    assert [arrow.critical for arrow in graph.arrows] == [True]


def test_long_chains_show_what_is_near() -> None:
    steps = [step(1), *(step(n, n - 1) for n in range(2, 200))]
    graph = draw_dependencies(steps, current=100)
    assert len(graph.boxes) == MAX_BOXES
    assert graph.hidden == 199 - MAX_BOXES
    assert {99, 100, 101} <= {box.pk for box in graph.boxes}


def test_long_names_are_cut_in_the_box_only() -> None:
    graph = draw_dependencies([step(1, name="x" * 200)], 1)
    assert len(graph.boxes[0].name) < 30
    assert graph.boxes[0].full_name == "x" * 200
