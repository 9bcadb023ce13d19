"""What was measured, and whether it is what was promised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure is held to: its ratio to the floor or, where there is none, its value."""

    number: float
    at_least: bool = False
    informative: bool = False
    """Printed; to exceed it is an error only with ``--strict``."""

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.number:g}"

    def holds(self, number: float) -> bool:
        """Whether ``number`` is within it."""
        return number >= self.number if self.at_least else number <= self.number


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, the floor that it was measured against, and what it may be."""

    what: str
    value: float
    unit: str = ""
    floor: float | None = None
    ratio: float | None = None
    """The median of the ratios of neighbours, which is not the ratio of the medians."""
    limit: Limit | None = None
    of_value: bool = False
    """The limit is one of the value, though there is a ratio."""
    spread: str = ""
    group: str = ""
    database: str = ""

    @property
    def of_ratio(self) -> bool:
        """Whether the limit is one of the ratio."""
        return self.ratio is not None and not self.of_value

    @property
    def holds(self) -> bool:
        """Whether it is within its limit, if it has one."""
        number = self.ratio if self.of_ratio else self.value
        assert number is not None
        return self.limit is None or self.limit.holds(number)

    @property
    def informative(self) -> bool:
        """Whether to exceed the limit is an error only with ``--strict``."""
        return self.limit is not None and self.limit.informative


@dataclass(frozen=True, slots=True)
class PairedValue:
    """A measurement and the one of its floor that was taken right beside it."""

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
    """How many times its floor something is."""
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


def median_figure(what: str, unit: str, values: Sequence[float], limit: Limit | None = None) -> Figure:
    """The median of what was measured."""
    return Figure(what, median(values), unit, limit=limit, spread=spread(values))


def spread(numbers: Iterable[float]) -> str:
    """How many they are, from the least to the greatest."""
    ordered = sorted(numbers)
    return f"{ordered[0]:.3g} to {ordered[-1]:.3g} ({len(ordered)} rounds)"
