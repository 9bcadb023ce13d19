"""The series of a monitor with groups: their states, and what one measurement does to them. Pure.

Each series has the state machine of :mod:`.thresholds`. The severity of the monitor is that of its
worst series. A series that a measurement does not contain is measured as ok: so it recovers after
``recovery`` measurements, and is then forgotten. When the probe fails, all series are unknown; the
series :data:`WHOLE` is too, so that a failure is also noticed while there are no groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from .baselines import Band, Histories
from .enums import Severity
from .thresholds import Rules, SeverityState, Thresholds, rank

WHOLE = ""
"""The name of the series that is unknown while the probe fails. Never shown; no group has it."""
MAX_NAME_LENGTH = 100
"""Characters of a name that are kept."""
NO_VALUE_NAME, EMPTY_NAME = "(none)", "(empty)"
_START = SeverityState()


@dataclass(frozen=True, slots=True)
class SeriesValue:
    """The value of one group in a measurement, or None if it is not a finite number."""

    name: str
    value: float | None
    severity: Severity = Severity.OK


@dataclass(frozen=True, slots=True)
class SeriesState:
    """The state of one series."""

    name: str
    severity_state: SeverityState = _START
    since: datetime | None = None
    value: float | None = None
    measured: Severity = Severity.OK
    """The severity of the last measurement alone."""
    band: Band | None = None
    """The values that are not unusual, if the operator learns them."""

    @property
    def severity(self) -> Severity:
        """Its severity."""
        return self.severity_state.severity

    def to_json(self) -> dict[str, object]:
        """Return it for a JSON column; the collector reads the names too."""
        stored: dict[str, object] = {
            "name": self.name,
            "severity": int(self.severity),
            "streaks": list(self.severity_state.streaks),
            "since": self.since.isoformat() if self.since else None,
            "value": self.value,
            "measured": int(self.measured),
        }
        if self.band is not None:
            stored |= {"low": self.band.low, "high": self.band.high}
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> SeriesState:
        """Return it from :meth:`to_json`. Raises KeyError, TypeError or ValueError."""
        warning, unknown, critical = (int(streak) for streak in _as_list(stored["streaks"]))
        since, low, high = stored["since"], stored.get("low"), stored.get("high")
        return cls(
            name=str(stored["name"]),
            severity_state=SeverityState(
                _as_severity(stored["severity"]), warning, unknown, critical
            ),
            since=datetime.fromisoformat(since) if isinstance(since, str) else None,
            value=_as_number(stored["value"]),
            measured=_as_severity(stored["measured"]),
            band=Band(low, high) if isinstance(low, float) and isinstance(high, float) else None,
        )


@dataclass(frozen=True, slots=True)
class SeriesStep:
    """What one measurement did to the series."""

    states: tuple[SeriesState, ...]
    """By name. Includes :data:`WHOLE`."""
    kept: tuple[SeriesValue, ...]
    """What was measured of the series that are kept, worst first."""
    dropped: int
    """How many groups were measured but are beyond the limit."""
    changed: bool
    """Whether the severity of any series changed, or a bad one is gone."""

    @property
    def worst(self) -> SeverityState:
        """The state of the worst series."""
        return max(
            (state.severity_state for state in self.states),
            key=lambda state: (rank(state.severity), state.streaks),
        )


def advance_series(
    states: Sequence[SeriesState],
    measured: Sequence[SeriesValue] | None,
    rules: Rules,
    *,
    now: datetime,
    max_series: int,
    bands: Mapping[str, Band] | None = None,
) -> SeriesStep:
    """Apply a measurement. ``measured`` is None if the probe failed.

    Bad series are kept first if there are more than ``max_series``.
    """
    before = {state.name: state for state in states}
    values = {value.name: value for value in measured or ()}
    failed = Severity.UNKNOWN if measured is None else Severity.OK
    names = _names_to_keep(before, values, max_series)
    kept: list[SeriesState] = []
    for name in (WHOLE, *names):
        value = values.get(name, SeriesValue(name, None, failed))
        old = before.get(name) or SeriesState(name)
        severity_state, change = rules.advance(old.severity_state, value.severity)
        if name != WHOLE and name not in values and severity_state == _START:
            continue  # it has recovered, or was never bad
        kept.append(
            SeriesState(
                name,
                severity_state,
                now if change or old.since is None else old.since,
                value.value,
                value.severity,
                (bands or {}).get(name),
            )
        )
    return SeriesStep(
        states=tuple(kept),
        kept=tuple(
            sort_worst_first((values[name] for name in names if name in values), rules.thresholds)
        ),
        dropped=sum(name not in names for name in values),
        changed=_bad(states) != _bad(kept),
    )


def _names_to_keep(
    states: Mapping[str, SeriesState], values: Mapping[str, SeriesValue], max_series: int
) -> list[str]:
    """Return the names to keep, sorted: of the bad ones first, then by name."""

    def order(name: str) -> tuple[int, str]:
        ranks = [rank(states[name].severity)] if name in states else []
        if name in values:
            ranks.append(rank(values[name].severity))
        return -max(ranks), name

    names = (states.keys() | values.keys()) - {WHOLE}
    if len(names) <= max_series:
        return sorted(names)
    return sorted(sorted(names, key=order)[:max_series])


def _bad(states: Iterable[SeriesState]) -> dict[str, Severity]:
    return {
        state.name: state.severity
        for state in states
        if state.severity is not Severity.OK and state.name != WHOLE
    }


def bad_series(states: Iterable[SeriesState], thresholds: Thresholds) -> list[SeriesState]:
    """Return the groups that are not ok, worst first."""
    return [state for state in visible(states, thresholds) if state.severity is not Severity.OK]


def visible(states: Iterable[SeriesState], thresholds: Thresholds) -> list[SeriesState]:
    """Return the groups, worst first."""
    return sorted(
        (state for state in states if state.name != WHOLE),
        key=lambda state: (
            -rank(state.severity), -rank(state.measured), -thresholds.badness(state.value),
            state.name,
        ),
    )  # fmt: skip


def sort_worst_first(
    values: Iterable[SeriesValue], thresholds: Thresholds
) -> Iterator[SeriesValue]:
    """Yield measured values, worst first."""
    yield from sorted(
        values,
        key=lambda each: (-rank(each.severity), -thresholds.badness(each.value), each.name),
    )


def evaluate_series(
    values: Iterable[SeriesValue], thresholds: Thresholds, histories: Histories
) -> tuple[tuple[SeriesValue, ...], dict[str, Band]]:
    """Evaluate values against their own histories; return them and the bands."""
    evaluated, bands = [], {}
    for each in values:
        history = histories.get(each.name)
        baseline = history.baseline if history else None
        if (band := thresholds.band(baseline)) is not None:
            bands[each.name] = band
        if each.value is not None:
            each = replace(each, severity=thresholds.evaluate(each.value, baseline))
        evaluated.append(each)
    return tuple(evaluated), bands


def series_name(value: object) -> str:
    """Return the name of a group: any value as one line of text, never empty."""
    if value is None:
        return NO_VALUE_NAME
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value).encode("utf-8", "replace").decode()
    text = "".join(" " if ord(letter) < 32 or ord(letter) == 127 else letter for letter in text)
    return text.strip()[:MAX_NAME_LENGTH].strip() or EMPTY_NAME


def unique_names(values: Iterable[SeriesValue]) -> tuple[SeriesValue, ...]:
    """Number the groups whose names are the same after :func:`series_name`."""
    seen: set[str] = set()
    found = []
    for each in values:
        name, number = each.name, 1
        while name in seen:
            number += 1
            name = f"{each.name} ({number})"
        seen.add(name)
        found.append(replace(each, name=name))
    return tuple(found)


def states_from_json(stored: object) -> tuple[SeriesState, ...]:
    """Return the states of a JSON column; those that are not valid are left out."""
    found = []
    for each in stored if isinstance(stored, list) else ():
        try:
            found.append(SeriesState.from_json(each))
        except (KeyError, TypeError, ValueError):
            continue
    return tuple(found)


def _as_severity(value: object) -> Severity:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is not a severity.")
    return Severity(value)


def _as_list(value: object) -> Sequence[int]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list.")
    return value


def _as_number(value: object) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise TypeError(f"{value!r} is not a number.")
