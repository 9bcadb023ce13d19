"""Format values with their units for people."""

from __future__ import annotations

import math

from django.contrib.humanize.templatetags.humanize import intcomma
from django.template.defaultfilters import filesizeformat

from chroniker.admin import formats

EMPTY = formats.EMPTY
_LARGE = 1e18
_BYTES = frozenset({"B", "byte", "bytes"})
_SECONDS = frozenset({"s", "second", "seconds"})


def format_value(value: float | None, unit: str = "") -> str:
    """Format a value: ``93.1 %``, ``4.2 GB``, ``3 min 05 s``, ``1,204 rows``."""
    if value is None:
        return EMPTY
    if abs(value) >= _LARGE or math.isnan(value):  # no prefix or unit makes it readable
        return f"{value:.4g} {unit}".strip()
    if unit in _BYTES:
        return filesizeformat(value) if value >= 0 else f"-{filesizeformat(-value)}"
    if unit in _SECONDS and value >= 0:
        return f"{value * 1000:.1f} ms" if 0 < value < 0.1 else formats.duration(value)
    return f"{format_number(value)} {unit}".strip()


def format_number(value: float) -> str:
    """Format a finite number with four significant digits, or all digits of a whole number."""
    if value == int(value):
        return str(intcomma(int(value)))
    if abs(value) >= 1000:
        return str(intcomma(round(value)))
    return f"{value:.4g}"
