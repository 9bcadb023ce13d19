"""The chart of durations."""

from __future__ import annotations

from chroniker.admin.job_charts import BOTTOM, HEIGHT, TOP, draw_durations
from chroniker.models import Job, Run


def runs(*seconds: float | None, status: str = "succeeded") -> list[Run]:
    return [Run(pk=n, status=status, duration_seconds=s) for n, s in enumerate(seconds, 1)]


def test_bars_are_proportional_and_the_newest_is_on_the_right() -> None:
    chart = draw_durations(Job(), runs(10.0, 5.0, None, 2.5))
    assert chart is not None
    assert [bar.run.pk for bar in chart.bars] == [4, 2, 1]
    short, middle, long = chart.bars
    assert long.height == HEIGHT - TOP - BOTTOM
    assert middle.height == long.height / 2
    assert short.height == long.height / 4
    assert short.x < middle.x < long.x
    assert all(TOP <= bar.y <= HEIGHT - BOTTOM for bar in chart.bars)


def test_limits_are_drawn_unless_they_dwarf_the_bars() -> None:
    chart = draw_durations(Job(expected_seconds=20, timeout_seconds=3600), runs(10.0))
    assert chart is not None
    assert [line.name for line in chart.lines if line.name != "grid"] == ["expected"]


def test_failures_are_marked_not_only_by_colour() -> None:
    chart = draw_durations(Job(), runs(1.0, status="timed_out"))
    assert chart is not None
    assert chart.bars[0].failed
    assert chart.bars[0].title == "timed out, 1.00 s"


def test_runs_of_no_time_and_of_weeks_are_drawn() -> None:
    for seconds in (0.0, 1e-6, 0.3, 59.0, 61.0, 7_200.0, 1_000_000.0):
        chart = draw_durations(Job(), runs(seconds))
        assert chart is not None
        grid = [line for line in chart.lines if line.name == "grid"]
        assert len(grid) <= 8
        assert all(bar.height >= 1 for bar in chart.bars)


def test_nothing_measured_is_no_chart() -> None:
    assert draw_durations(Job(), runs(None, None)) is None
