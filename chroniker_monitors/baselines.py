"""Learn what is usual at an hour of the week. Pure: no ORM, no clock.

Load, orders and queues repeat each day and each week, so a value is compared with the values of the
same hour on the same weekday. An hour is one of local time: when the clocks change, the office
still opens at nine.

The usual values are the 5th to the 95th percentile of these samples. If there are four weeks or
more, the week that deviates most is left out, so that an outage does not become usual. A band is
the distance of both percentiles from the median, multiplied by a factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

MIN_WEEKS = 3
"""The weeks that must have samples of an hour before there is a verdict."""
MIN_SAMPLES = 10
"""The samples of an hour, in all its weeks together, that a verdict needs."""
MIN_DAYS = 7 * MIN_WEEKS + 1
"""The days that samples must be kept for that."""
MIN_FACTOR = 1.0
"""The least factor that widens what is usual."""
MAX_WEEKS = 12
"""How far back the history of an hour goes."""
LOW_QUANTILE, HIGH_QUANTILE = 0.05, 0.95
MIN_SPREAD = 0.02
"""The least distance of a percentile from the median, as a share of the median. Without it, every
other value would be unusual after a history of one constant value."""
_WEEKS_TO_TRIM = 4
_QUARTER = 900
"""Seconds. The offset of every time zone is a multiple of a quarter of an hour."""


@dataclass(frozen=True, slots=True)
class Band:
    """The values from ``low`` to ``high``, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Baseline:
    """The percentiles and the median of the values at an hour of the week."""

    low: float
    middle: float
    high: float

    def band(self, factor: float) -> Band:
        """Return the usual values, widened by a factor."""
        least = MIN_SPREAD * abs(self.middle)
        return Band(
            self.middle - factor * max(self.middle - self.low, least),
            self.middle + factor * max(self.high - self.middle, least),
        )


@dataclass(frozen=True, slots=True)
class HourHistory:
    """What is known about an hour of the week."""

    weeks: int = 0
    """In how many of the past weeks it has samples."""
    samples: int = 0
    baseline: Baseline | None = None
    """None if there are too few of either."""


NO_HISTORY = HourHistory()


@dataclass(frozen=True, slots=True, order=True)
class LocalHour:
    """An hour of local time: the ordinal of its date, and its number from 0 to 23."""

    day: int
    hour: int

    @classmethod
    def of(cls, at: datetime, zone: tzinfo) -> LocalHour:
        """Return the hour that contains a moment."""
        local = at.astimezone(zone)
        return cls(local.toordinal(), local.hour)

    @property
    def weekday(self) -> int:
        """The day of the week, from 0 for Monday."""
        return date.fromordinal(self.day).weekday()

    def weeks_before(self) -> Iterator[LocalHour]:
        """Yield the same hour of the past weeks, newest first."""
        for week in range(1, MAX_WEEKS + 1):
            yield LocalHour(self.day - 7 * week, self.hour)

    def limits(self, zone: tzinfo) -> tuple[datetime, datetime]:
        """Return when it begins and ends: empty, or two hours, when the clocks change."""
        begin = datetime.combine(date.fromordinal(self.day), datetime.min.time())
        begin += timedelta(hours=self.hour)
        end = begin + timedelta(hours=1)
        return begin.replace(tzinfo=zone).astimezone(UTC), end.replace(tzinfo=zone).astimezone(UTC)


def learn(weeks: Iterable[Sequence[float]]) -> HourHistory:
    """Learn from the values of an hour, by week; weeks without values do not count."""
    present = [week for week in weeks if week]
    number, samples = len(present), sum(map(len, present))
    if number < MIN_WEEKS or samples < MIN_SAMPLES:
        return HourHistory(number, samples)
    if number >= _WEEKS_TO_TRIM:
        present = _without_most_deviating(present)
    values = sorted(value for week in present for value in week)
    quantiles = (_quantile(values, share) for share in (LOW_QUANTILE, 0.5, HIGH_QUANTILE))
    return HourHistory(number, samples, Baseline(*quantiles))


def _without_most_deviating(weeks: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    medians = [_quantile(sorted(week), 0.5) for week in weeks]
    middle = _quantile(sorted(medians), 0.5)
    worst = max(range(len(weeks)), key=lambda number: abs(medians[number] - middle))
    return [week for number, week in enumerate(weeks) if number != worst]


def _quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values, interpolated between two of them."""
    place = share * (len(values) - 1)
    below = int(place)
    if below + 1 >= len(values):
        return values[-1]
    part = place - below
    return values[below] * (1 - part) + values[below + 1] * part


class WeeklyHistory:
    """Values by hour, from which the baseline of a later hour is learned."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._values: dict[LocalHour, list[float]] = {}
        self._hours: dict[int, LocalHour] = {}
        self._learned: dict[LocalHour, HourHistory] = {}

    def hour_of(self, at: datetime) -> LocalHour:
        """Return the hour that contains a moment; fast for many moments."""
        quarter = int(at.timestamp() // _QUARTER)
        hour = self._hours.get(quarter)
        if hour is None:
            hour = self._hours[quarter] = LocalHour.of(at, self._zone)
        return hour

    def add(self, at: datetime, value: float) -> None:
        """Add a value. Add all values of the weeks before an hour before asking for it."""
        self._values.setdefault(self.hour_of(at), []).append(value)

    def at(self, moment: datetime) -> HourHistory:
        """Return the history of the hour that contains a moment."""
        hour = self.hour_of(moment)
        found = self._learned.get(hour)
        if found is None:
            found = learn(self._values.get(before, ()) for before in hour.weeks_before())
            self._learned[hour] = found
        return found


def history_to_json(history: HourHistory) -> list[float | None]:
    """Return a history as a list of numbers."""
    baseline = history.baseline
    percentiles = (baseline.low, baseline.middle, baseline.high) if baseline else (None,) * 3
    return [history.weeks, history.samples, *percentiles]


def history_from_json(stored: object) -> HourHistory:
    """Return a history from :func:`history_to_json`; an empty one if it is not valid."""
    match stored:
        case [int(weeks), int(samples), None, None, None]:
            return HourHistory(weeks, samples)
        case [
            int(weeks), int(samples), int() | float() as low, int() | float() as middle,
            int() | float() as high,
        ]:  # fmt: skip
            return HourHistory(weeks, samples, Baseline(low, middle, high))
    return NO_HISTORY


Histories = Mapping[str, HourHistory]
"""The histories of the present hour by series; the series of a monitor without groups is ''."""
