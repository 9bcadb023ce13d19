"""Measured figures and their limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from statistics import median

SCALE_RUN: ContextVar[bool] = ContextVar("scale run", default=False)
"""Whether to measure with a million rows, which takes long (``--scale``)."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit for the ratio to the floor or, without a floor, for the value."""

    number: float
    at_least: bool = False
    informative: bool = False
    """Only printed; an error with ``--strict``."""

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.number:g}"

    def holds(self, number: float) -> bool:
        """Return whether ``number`` is within the limit."""
        return number >= self.number if self.at_least else number <= self.number


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number, its floor (the minimum it is compared with), and its limit."""

    what: str
    value: float
    unit: str = ""
    floor: float | None = None
    ratio: float | None = None
    """The median of the ratios of pairs, which is not the ratio of the medians."""
    limit: Limit | None = None
    of_value: bool = False
    """The limit applies to the value, although there is a ratio."""
    spread: str = ""
    group: str = ""
    database: str = ""

    @property
    def of_ratio(self) -> bool:
        """Whether the limit applies to the ratio."""
        return self.ratio is not None and not self.of_value

    @property
    def holds(self) -> bool:
        """Whether it is within its limit, or has none."""
        number = self.ratio if self.of_ratio else self.value
        assert number is not None
        return self.limit is None or self.limit.holds(number)

    @property
    def informative(self) -> bool:
        """Whether exceeding the limit is an error only with ``--strict``."""
        return self.limit is not None and self.limit.informative


@dataclass(frozen=True, slots=True)
class PairedValue:
    """A measured value and its floor, measured directly after each other."""

    value: float
    floor: float


def compare_with_floor(
    what: str,
    unit: str,
    pairs: Sequence[PairedValue],
    limit: Limit | None = None,
    *,
    of_value: bool = False,
) -> Figure:
    """Return a figure with its ratio to the floor."""
    ratios = [pair.value / pair.floor for pair in pairs]
    return Figure(
        what,
        value=median(pair.value for pair in pairs),
        unit=unit,
        floor=median(pair.floor for pair in pairs),
        ratio=median(ratios),
        limit=limit,
        of_value=of_value,
        spread=spread(ratios),
    )


def median_figure(
    what: str, unit: str, values: Sequence[float], limit: Limit | None = None
) -> Figure:
    """Return a figure with the median of the values."""
    return Figure(what, median(values), unit, limit=limit, spread=spread(values))


def spread(numbers: Iterable[float]) -> str:
    """Return the range of the numbers, and how many they are."""
    ordered = sorted(numbers)
    return f"{ordered[0]:.3g} to {ordered[-1]:.3g} ({len(ordered)} rounds)"
