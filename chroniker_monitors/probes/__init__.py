"""Probes: what a monitor measures. ``docs/probes.md`` has an entry for each kind.

``@register_probe`` above a dataclass makes a kind of a site's own known; a package names its
kinds by entry points of the group ``chroniker.probes``.
"""

from __future__ import annotations

from .base import BaseProbe, ParamField, Reading, param
from .registry import build, fields, kind_class, preload, probe_kinds, register_probe
from .time_limit import Measurement, call_with_timeout, measure, measure_kind, remaining_seconds

__all__ = [
    "BaseProbe",
    "Measurement",
    "ParamField",
    "Reading",
    "build",
    "call_with_timeout",
    "fields",
    "kind_class",
    "measure",
    "measure_kind",
    "param",
    "preload",
    "probe_kinds",
    "register_probe",
    "remaining_seconds",
]
