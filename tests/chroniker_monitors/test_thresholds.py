"""Operators, severities and streaks, by example and by property."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroniker_monitors.enums import Operator, Severity
from chroniker_monitors.thresholds import (
    SeverityChange,
    SeverityState,
    Thresholds,
    advance,
    evaluate,
    rank,
)

OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN
WORDS = {"S": OK, "W": WARNING, "F": CRITICAL, "U": UNKNOWN}

numbers = st.floats(allow_nan=False)
severities = st.sampled_from(list(Severity))
counts = st.integers(1, 5)


def walk(
    samples: str | Sequence[Severity], consecutive: int = 1, recovery: int = 1
) -> tuple[SeverityState, list[Severity]]:
    """The final severity, and each severity change."""
    severity_state, changes = SeverityState(), []
    for sample in samples:
        measured = WORDS[sample] if isinstance(sample, str) else sample
        severity_state, change = advance(
            severity_state, measured, consecutive=consecutive, recovery=recovery
        )
        if change:
            changes.append(change.after)
    return severity_state, changes


@pytest.mark.parametrize(
    ("operator", "bad", "good"),
    [(">", 11, 10), (">=", 10, 9), ("<", 9, 10), ("<=", 10, 11), ("==", 10, 9), ("!=", 9, 10)],
)
def test_each_operator_at_its_threshold(operator: str, bad: float, good: float) -> None:
    assert evaluate(bad, operator, None, 10) is CRITICAL
    assert evaluate(good, operator, None, 10) is OK
    assert evaluate(bad, operator, 10, None) is WARNING
    assert evaluate(good, operator, 10, None) is OK


@given(numbers, st.sampled_from(Operator.values), numbers, numbers)
def test_critical_takes_precedence_over_warning(
    value: float, operator: str, warning: float, critical: float
) -> None:
    both = evaluate(value, operator, warning, critical)
    alone = evaluate(value, operator, None, critical)
    assert (both is CRITICAL) == (alone is CRITICAL)


@given(st.sampled_from(Operator.values), st.none() | numbers, st.none() | numbers)
def test_value_that_is_not_a_number_is_unknown(
    operator: str, warning: float | None, critical: float | None
) -> None:
    assert evaluate(math.nan, operator, warning, critical) is UNKNOWN


@pytest.mark.parametrize("operator", Operator.values)
def test_nan_threshold_is_ignored(operator: str) -> None:
    """Comparisons with NaN would always be ok."""
    assert evaluate(5, operator, None, math.nan) is UNKNOWN
    assert evaluate(5, operator, math.nan, None) is UNKNOWN


@given(numbers, st.sampled_from(Operator.values))
def test_without_thresholds_everything_is_ok(value: float, operator: str) -> None:
    assert Thresholds(operator).evaluate(value) is OK


@given(numbers, numbers, numbers, st.sampled_from([">", ">="]))
def test_higher_value_is_never_better(
    value: float, warning: float, critical: float, operator: str
) -> None:
    bounds = Thresholds(operator, min(warning, critical), max(warning, critical))
    higher = math.nextafter(value, math.inf)
    assert rank(bounds.evaluate(higher)) >= rank(bounds.evaluate(value))


def test_thresholds_in_the_wrong_order_are_reported() -> None:
    assert Thresholds(">", 90, 80).warning_is_unreachable()
    assert Thresholds("<", 10, 20).warning_is_unreachable()
    assert not Thresholds(">", 80, 90).warning_is_unreachable()
    assert not Thresholds("<", 20, 10).warning_is_unreachable()
    assert not Thresholds("==", 1, 2).warning_is_unreachable()
    assert not Thresholds(">", None, 2).warning_is_unreachable()
    assert not Thresholds("<", 2, None).warning_is_unreachable()


@pytest.mark.parametrize("operator", [">", ">=", "<", "<="])
def test_warning_at_the_critical_threshold_is_unreachable(operator: str) -> None:
    assert Thresholds(operator, 80, 80).warning_is_unreachable()
    assert Thresholds(operator, 80, 80).evaluate(80) is not WARNING


@pytest.mark.parametrize(
    ("samples", "consecutive", "recovery", "changes"),
    [
        ("FFFFS", 3, 1, [CRITICAL, OK]),
        ("FFS", 3, 1, []),
        ("FFSFFSFFS", 3, 1, []),
        ("FFFSFSFSS", 3, 2, [CRITICAL, OK]),
        ("SSSSS", 1, 1, []),
        ("F", 1, 1, [CRITICAL]),
        ("FW", 1, 1, [CRITICAL, WARNING]),
        ("WFF", 3, 1, [WARNING]),
        ("WFFF", 3, 1, [WARNING, CRITICAL]),
        ("UUU", 3, 1, [UNKNOWN]),
        ("FFFUS", 3, 1, [CRITICAL, UNKNOWN, OK]),
        ("FFFUS", 3, 2, [CRITICAL, UNKNOWN]),
        ("FFFUSS", 3, 2, [CRITICAL, UNKNOWN, OK]),
    ],
)
def test_streaks_of_samples(
    samples: str, consecutive: int, recovery: int, changes: list[Severity]
) -> None:
    assert walk(samples, consecutive, recovery)[1] == changes


@given(st.lists(severities), counts, counts)
def test_change_is_always_to_another_severity(
    samples: list[Severity], consecutive: int, recovery: int
) -> None:
    severity_state = SeverityState()
    for sample in samples:
        after, change = advance(severity_state, sample, consecutive=consecutive, recovery=recovery)
        assert (change is not None) == (after.severity is not severity_state.severity)
        if change:
            assert change == SeverityChange(severity_state.severity, after.severity)
        severity_state = after


@given(st.lists(severities), counts, counts)
def test_alarm_needs_enough_consecutive_samples(
    samples: list[Severity], consecutive: int, recovery: int
) -> None:
    """Each severity is reached and left after its number of consecutive samples."""
    severity_state = SeverityState()
    for number, sample in enumerate(samples, 1):
        before, seen = severity_state, samples[:number]
        severity_state, change = advance(
            severity_state, sample, consecutive=consecutive, recovery=recovery
        )
        if change and rank(change.after) > rank(change.before):
            last = seen[-consecutive:]
            assert len(last) == consecutive
            assert all(rank(s) >= rank(change.after) for s in last)
        elif change:
            last = seen[-recovery:]
            assert len(last) == recovery
            assert all(rank(s) <= rank(change.after) for s in last)
        # it is reached no later than that
        for severity in (WARNING, UNKNOWN, CRITICAL):
            if rank(before.severity) >= rank(severity):
                continue
            if number >= consecutive and all(
                rank(s) >= rank(severity) for s in seen[-consecutive:]
            ):
                assert rank(severity_state.severity) >= rank(severity)


@given(st.lists(severities), counts, counts, severities)
def test_repeated_sample_becomes_the_severity(
    samples: list[Severity], consecutive: int, recovery: int, last: Severity
) -> None:
    severity_state, _ = walk(
        [*samples, *[last] * max(consecutive, recovery)], consecutive, recovery
    )
    assert severity_state == SeverityState(last)


@given(st.lists(severities))
def test_with_counts_of_one_severity_follows_the_last_sample(samples: list[Severity]) -> None:
    severity_state, _ = walk(samples)
    assert severity_state.severity is (samples[-1] if samples else OK)


@given(st.lists(severities), counts, counts)
def test_streak_stays_below_its_limit(
    samples: list[Severity], consecutive: int, recovery: int
) -> None:
    severity_state, _ = walk(samples, consecutive, recovery)
    assert all(0 <= streak < max(consecutive, recovery) for streak in severity_state.streaks)


def test_unknown_is_between_warning_and_critical() -> None:
    assert sorted(Severity, key=rank) == [OK, WARNING, UNKNOWN, CRITICAL]


def test_unknown_operator_is_an_error() -> None:
    with pytest.raises(KeyError):
        evaluate(5, "~", None, None)


@given(severities, severities)
def test_one_sample_decides_by_default(before: Severity, measured: Severity) -> None:
    severity_state, change = advance(SeverityState(before), measured)
    assert severity_state == SeverityState(measured)
    assert change == (None if before is measured else SeverityChange(before, measured))


@pytest.mark.parametrize(
    ("before", "after", "recovery"),
    [(OK, WARNING, False), (CRITICAL, WARNING, False), (WARNING, OK, True)],
)
def test_change_to_ok_is_a_recovery(before: Severity, after: Severity, recovery: bool) -> None:
    assert SeverityChange(before, after).is_recovery == recovery


def test_streaks_count_for_each_level_what_disagrees_with_it() -> None:
    severity_state, _ = advance(SeverityState(), UNKNOWN, consecutive=3)
    assert severity_state.streaks == (1, 1, 0)
    severity_state, _ = advance(severity_state, CRITICAL, consecutive=3)
    assert severity_state.streaks == (2, 2, 1)
    severity_state, _ = advance(severity_state, WARNING, consecutive=3)
    assert severity_state == SeverityState(WARNING, 0, 0, 0)


@given(
    st.sampled_from(Operator.values), st.none() | numbers, st.none() | numbers,
    st.lists(st.none() | numbers),
)  # fmt: skip
def test_all_ok_is_only_said_of_values_that_are(
    operator: str, warning: float | None, critical: float | None, values: list[float | None]
) -> None:
    thresholds = Thresholds(operator, warning, critical)
    each = all(value is not None and thresholds.evaluate(value) is OK for value in values)
    if operator in ("==", "!=", "unusual"):
        assert not thresholds.all_ok(values)
    else:
        assert thresholds.all_ok(values) == each
