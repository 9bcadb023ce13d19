"""Stub."""

from __future__ import annotations


def report(value: float, message: str = "") -> None:
    """Stub."""
