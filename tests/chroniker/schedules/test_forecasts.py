"""Forecasts over chains of jobs."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from chroniker.schedules.forecasts import Forecast, PendingRun, Wait, forecast

NOW = 1000.0
Runs = dict[int, PendingRun]
Waits = dict[int, list[Wait[int]]]


def ends(runs: Runs, waits: Waits | None = None, now: float = NOW) -> dict[int, float]:
    return {key: found.finish for key, found in forecast(runs, waits or {}, now).items()}


def at(start: float, seconds: float, **fields: object) -> PendingRun:
    return PendingRun(seconds, start, start, **fields)  # type: ignore[arg-type]


def running(since: float, seconds: float) -> PendingRun:
    return PendingRun(seconds, since, running_since=since)


def test_run_ends_after_its_usual_duration() -> None:
    runs = {1: at(2000, 60), 2: at(900, 60), 3: running(990, 60), 4: running(100, 60)}
    assert ends(runs) == {1: 2060, 2: 1060, 3: 1050, 4: 1000}  # 4 takes longer than usual


def test_run_waits_for_what_is_due_before_it() -> None:
    chain: Waits = {2: [Wait(1)], 3: [Wait(2)]}
    assert ends({1: at(2000, 500), 2: at(2100, 60), 3: at(2200, 60)}, chain) == {
        1: 2500, 2: 2560, 3: 2620
    }  # fmt: skip
    # What runs delays it, whatever its slot; what comes later does not.
    assert ends({1: running(900, 5000), 2: at(2100, 60)}, {2: [Wait(1)]})[2] == 5960
    assert ends({1: at(2200, 500), 2: at(2100, 60)}, {2: [Wait(1)]})[2] == 2160


def test_run_waits_for_the_next_success_of_an_upstream_job_that_failed() -> None:
    failed = at(9000, 100, last_succeeded=False)
    assert ends({1: failed, 2: at(2000, 60)}, {2: [Wait(1, for_success=True)]})[2] == 9160
    assert ends({1: failed, 2: at(2000, 60)}, {2: [Wait(1)]})[2] == 2060


def test_job_without_a_schedule_follows_the_earliest_upstream_job() -> None:
    runs = {1: at(2000, 100), 2: at(3000, 100), 3: PendingRun(60), 4: PendingRun(5)}
    found = forecast(runs, {3: [Wait(1), Wait(2)]}, NOW)
    assert found[3] == Forecast(slot=2000, finish=2160)
    assert 4 not in found  # nothing starts it


def test_cycle_is_no_error() -> None:
    assert ends({1: at(2000, 10), 2: at(2000, 10)}, {1: [Wait(2)], 2: [Wait(1)]}).keys() == {1, 2}


seconds = st.integers(0, 500)
moments = st.integers(0, 3000)
pending = st.one_of(
    st.builds(at, moments, seconds, last_succeeded=st.booleans()),
    st.builds(running, st.integers(0, 1000), seconds),
    st.builds(PendingRun, seconds),
)


@st.composite
def sites(draw: st.DrawFn) -> tuple[Runs, Waits]:
    runs = dict(enumerate(draw(st.lists(pending, min_size=1, max_size=7))))
    waits: Waits = {}
    for key in runs:
        upstream = draw(st.sets(st.integers(0, key - 1), max_size=3)) if key else set()
        waits[key] = [Wait(other, draw(st.booleans())) for other in sorted(upstream)]
    return runs, waits


@given(sites())
def test_forecast_is_that_of_a_plain_recursion(site: tuple[Runs, Waits]) -> None:
    runs, waits = site

    def slot(key: int) -> float | None:
        found = [s for wait in waits[key] if (s := slot(wait.upstream)) is not None]
        own = runs[key].slot
        return min(found, default=None) if own is None else own

    def finish(key: int) -> float:
        run, mine = runs[key], slot(key)
        assert mine is not None
        if run.running_since is not None:
            return max(NOW, run.running_since + run.seconds)
        starts = [NOW, run.starts_at or 0]
        for wait in waits[key]:
            theirs, other = slot(wait.upstream), runs[wait.upstream]
            if theirs is not None and (
                other.running_since is not None
                or theirs <= mine
                or (wait.for_success and not other.last_succeeded)
            ):
                starts.append(finish(wait.upstream))
        return max(starts) + run.seconds

    wanted = {key: Forecast(s, finish(key)) for key in runs if (s := slot(key)) is not None}
    assert forecast(runs, waits, NOW) == wanted


@given(sites(), st.integers(0, 500), st.data())
def test_longer_runs_and_later_moments_never_end_anything_earlier(
    site: tuple[Runs, Waits], more: int, data: st.DataObject
) -> None:
    runs, waits = site
    before = ends(runs, waits)
    key = data.draw(st.sampled_from(sorted(runs)))
    longer = runs | {key: replace(runs[key], seconds=runs[key].seconds + more)}
    for after in (ends(longer, waits), ends(runs, waits, NOW + more)):
        assert all(after[each] >= before[each] for each in before)
    assert all(end >= NOW for end in before.values())
    assert all(
        end >= NOW + runs[k].seconds for k, end in before.items() if runs[k].running_since is None
    )
