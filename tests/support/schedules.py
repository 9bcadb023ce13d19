"""The slots of a schedule, as text."""

from __future__ import annotations

from datetime import UTC, datetime

from chroniker.schedules import parse

NOW = datetime(2026, 6, 3, 5, 7, 30, tzinfo=UTC)  # a Wednesday


def slots(text: str, n: int = 3, *, zone: str = "UTC", name: str = "") -> list[str]:
    return [
        f"{slot:%a %d %b %Y %H:%M:%S}"
        for slot in parse(text, zone=zone, name=name).upcoming(NOW, n)
    ]
