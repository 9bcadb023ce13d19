"""Errors of the monitors, with a message for the person who reads it."""

from __future__ import annotations

from chroniker.exceptions import ChronikerError


class UnknownKind(ChronikerError):
    """No probe of that kind is registered."""


class ParamsInvalid(ChronikerError):
    """Parameters that a kind does not take; ``errors`` are by field."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{k}: {' '.join(v)}" for k, v in errors.items()))
