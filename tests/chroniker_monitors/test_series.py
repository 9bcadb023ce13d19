"""The states of groups: kept, recovered, forgotten, limited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroniker_monitors.enums import Severity
from chroniker_monitors.series import (
    MAX_NAME_LENGTH,
    WHOLE,
    SeriesState,
    SeriesStep,
    SeriesValue,
    advance_series,
    bad_series,
    series_name,
    states_from_json,
    unique_names,
    visible,
)
from chroniker_monitors.thresholds import Rules, SeverityState, Thresholds

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
ABOVE = Thresholds(">", 80, 90)
PLAIN = Rules(ABOVE)

names = st.sampled_from(["a", "b", "c", "d"])
measurements = st.one_of(
    st.none(), st.dictionaries(names, st.sampled_from([50.0, 85.0, 95.0]), max_size=4)
)


def step(
    states: Sequence[SeriesState],
    measured: Mapping[str, float] | None,
    rules: Rules = PLAIN,
    max_series: int = 50,
) -> SeriesStep:
    values = (
        None
        if measured is None
        else [SeriesValue(name, value, ABOVE.evaluate(value)) for name, value in measured.items()]
    )
    return advance_series(states, values, rules, now=NOON, max_series=max_series)


def walk(rules: Rules, *measured: Mapping[str, float] | None) -> SeriesStep:
    result = step((), measured[0], rules)
    for each in measured[1:]:
        result = step(result.states, each, rules)
    return result


def shown(result: SeriesStep) -> dict[str, str]:
    return {each.name: each.severity.name for each in result.states if each.name != WHOLE}


def test_each_group_has_its_own_thresholds_and_the_worst_counts() -> None:
    result = step((), {"eu": 95, "us": 50, "asia": 85})
    assert shown(result) == {"asia": "WARNING", "eu": "CRITICAL", "us": "OK"}
    assert result.worst.severity is Severity.CRITICAL
    assert [each.name for each in bad_series(result.states, ABOVE)] == ["eu", "asia"]
    assert [each.name for each in result.kept] == ["eu", "asia", "us"]


def test_group_that_disappears_is_forgotten_and_may_come_back() -> None:
    result = step(step((), {"eu": 50, "us": 50}).states, {"us": 50})
    assert shown(result) == {"us": "OK"}
    assert shown(step(result.states, {"eu": 95, "us": 50})) == {"eu": "CRITICAL", "us": "OK"}


def test_bad_group_that_disappears_recovers_first() -> None:
    rules = Rules(ABOVE, recovery=2)
    gone = walk(rules, {"eu": 95, "us": 50}, {"us": 50})
    assert shown(gone) == {"eu": "CRITICAL", "us": "OK"}
    assert next(each for each in gone.states if each.name == "eu").value is None
    after = step(gone.states, {"us": 50}, rules)
    assert shown(after) == {"us": "OK"}
    assert after.worst == SeverityState()
    assert after.changed


def test_absence_interrupts_a_streak() -> None:
    rules = Rules(ABOVE, consecutive=2)
    assert shown(walk(rules, {"eu": 95}, {}, {"eu": 95})) == {"eu": "OK"}
    assert shown(walk(rules, {"eu": 95}, {"eu": 95})) == {"eu": "CRITICAL"}


def test_failure_makes_every_group_and_the_monitor_unknown() -> None:
    result = walk(Rules(ABOVE), {"eu": 50}, None)
    assert shown(result) == {"eu": "UNKNOWN"}
    assert result.worst.severity is Severity.UNKNOWN
    without_groups = walk(Rules(ABOVE), {}, None)
    assert shown(without_groups) == {}
    assert without_groups.worst.severity is Severity.UNKNOWN
    assert step(without_groups.states, {}).worst.severity is Severity.OK


def test_bad_groups_are_kept_first() -> None:
    measured = {f"g{number:02}": 50.0 for number in range(10)} | {"z": 95.0}
    result = step((), measured, max_series=3)
    assert shown(result) == {"g00": "OK", "g01": "OK", "z": "CRITICAL"}
    assert result.dropped == 8
    assert [each.name for each in result.kept] == ["z", "g00", "g01"]


def test_worst_is_first_by_the_operator() -> None:
    below = Thresholds("<", 80)
    states = [SeriesState("a", value=70), SeriesState("b", value=5), SeriesState("c", value=None)]
    assert [each.name for each in visible(states, below)] == ["b", "a", "c"]
    assert [each.name for each in visible(states, ABOVE)] == ["a", "b", "c"]


def test_since_is_when_the_group_changed() -> None:
    first = step((), {"eu": 50})
    later = datetime(2026, 5, 4, 13, tzinfo=UTC)
    values = [SeriesValue("eu", 95, Severity.CRITICAL)]
    second = advance_series(first.states, values, Rules(ABOVE), now=later, max_series=50)
    assert [each.since for each in second.states if each.name == "eu"] == [later]
    assert [each.since for each in second.states if each.name == WHOLE] == [NOON]


@pytest.mark.slow
@given(st.lists(measurements, min_size=1, max_size=12), st.integers(1, 3), st.integers(1, 3))
def test_states_hold_only_what_is_measured_or_bad(
    history: list[dict[str, float] | None], consecutive: int, recovery: int
) -> None:
    rules = Rules(ABOVE, consecutive, recovery)
    result = walk(rules, *history)
    last = history[-1] or {}
    for each in result.states:
        if each.name not in last and each.name != WHOLE:
            assert each.severity_state != SeverityState()
    assert states_from_json([each.to_json() for each in result.states]) == result.states
    for _ in range(recovery):  # nothing is bad for ever
        result = step(result.states, {}, rules)
    assert result.worst.severity is Severity.OK
    assert shown(result) == {}


@given(st.lists(measurements, min_size=1, max_size=12), st.integers(1, 3), st.integers(1, 3))
def test_groups_do_not_influence_each_other(
    history: list[dict[str, float] | None], consecutive: int, recovery: int
) -> None:
    rules = Rules(ABOVE, consecutive, recovery)
    together = shown(walk(rules, *history))
    for name in "abcd":
        alone = [
            None if each is None else {key: v for key, v in each.items() if key == name}
            for each in history
        ]
        assert shown(walk(rules, *alone)).get(name) == together.get(name)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "(none)"), ("", "(empty)"), (" \n\t ", "(empty)"), (True, "true"), (3, "3"),
        ("a\nb\x00c", "a b c"), ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("x" * 500, "x" * MAX_NAME_LENGTH), ("\ud800", "?"), ("{{ 7*7 }}", "{{ 7*7 }}"),
    ],
)  # fmt: skip
def test_group_values_become_one_line_of_text(value: object, name: str) -> None:
    assert series_name(value) == name


def test_equal_names_are_numbered() -> None:
    found = unique_names([SeriesValue("x", 1), SeriesValue("x", 2), SeriesValue("x (2)", 3)])
    assert [each.name for each in found] == ["x", "x (2)", "x (2) (2)"]


@pytest.mark.parametrize("stored", [None, {}, [1], [{"name": "x"}], [{"streaks": None}], "x"])
def test_damaged_states_are_left_out(stored: object) -> None:
    assert states_from_json(stored) == ()
