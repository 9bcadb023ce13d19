"""Figures as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from types import ModuleType

from .figures import Figure

_FORMAT = "{:<52} {:>12} {:>12} {:>8} {:>10} {:<5} {}"
HEAD = "\n" + _FORMAT.format("figure", "value", "floor", "ratio", "limit", "", "spread").rstrip()


def line(figure: Figure) -> str:
    """Return the line of a figure."""
    where = f" [{figure.database}]" if figure.database else ""
    limit, verdict = "", ""
    if figure.limit is not None:
        unit = "x" if figure.of_ratio else f" {figure.unit}".rstrip()
        limit = f"{figure.limit}{unit}"
        verdict = "ok" if figure.holds else "OVER"
        if figure.informative:
            verdict += "*"
    return _FORMAT.format(
        f"{figure.group}: {figure.what}{where}",
        _quantity(figure.value, figure.unit),
        _quantity(figure.floor, figure.unit),
        "" if figure.ratio is None else f"{figure.ratio:.3g}x",
        limit,
        verdict,
        figure.spread,
    ).rstrip()


def notes(modules: Iterable[ModuleType]) -> str:
    """Return the explanations of these groups."""
    found = [f"{module.__name__.rpartition('.')[2]}: {module.NOTE}" for module in modules]
    found.append("*: an informative limit; it fails only with --strict.")
    return "\n" + "\n".join(
        textwrap.fill(" ".join(text.split()), 100, subsequent_indent="    ") for text in found
    )


def _quantity(number: float | None, unit: str) -> str:
    if number is None:
        return ""
    digits = f"{number:,.0f}" if abs(number) >= 1000 or number == int(number) else f"{number:.3g}"
    return f"{digits} {unit}".strip()
