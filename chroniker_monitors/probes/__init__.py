"""Probes: what a monitor measures. ``docs/probes.md`` has an entry for each kind.

``@register_probe`` above a dataclass makes a kind of a site's own known; a package names its
kinds by entry points of the group ``chroniker.probes``.
"""

from __future__ import annotations

from .base import BaseProbe, ParamField, Reading, param
from .measuring import Measurement, measure, measure_kind, remaining, within
from .registry import build, fields, kind_class, preload, probe_kinds, register_probe

__all__ = [
    "BaseProbe",
    "Measurement",
    "ParamField",
    "Reading",
    "build",
    "fields",
    "kind_class",
    "measure",
    "measure_kind",
    "param",
    "preload",
    "probe_kinds",
    "register_probe",
    "remaining",
    "within",
]
