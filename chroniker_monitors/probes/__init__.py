"""Probes: what a monitor measures. ``docs/reference/probes.md`` describes each kind.

A site registers its own kinds with ``@register_probe`` above ``@dataclass``; a package registers
them through entry points in the group ``chroniker.probes``.
"""

from __future__ import annotations

from .base import BaseProbe, Reading
from .params import ParamField, param
from .registry import build_probe, fields, kind_class, preload, probe_kinds, register_probe
from .time_limit import call_with_timeout, remaining_seconds

__all__ = [
    "BaseProbe",
    "ParamField",
    "Reading",
    "build_probe",
    "call_with_timeout",
    "fields",
    "kind_class",
    "param",
    "preload",
    "probe_kinds",
    "register_probe",
    "remaining_seconds",
]
