"""A snapshot as lines of text, for mails and pages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.template.defaultfilters import filesizeformat

from chroniker.masking import Masker

from .text import one_line


class SnapshotText:
    """The lines of a snapshot, masked. A template reads the attributes.

    ``but`` is the job that the incident is about, which is not listed among the others.
    """

    def __init__(self, snapshot: Mapping[str, Any], masker: Masker, *, but: str = "") -> None:
        self._snapshot = snapshot
        self._but = but
        self._masker = masker

    @property
    def host(self) -> str:
        """The host on which it was taken."""
        return self._line(self._snapshot.get("host", ""))

    @property
    def machine(self) -> str:
        """Load and memory in one line."""
        found = self._snapshot
        load = ", ".join(f"{value:g}" for value in found.get("load", ()))
        available = _size(found.get("memory_available_bytes", 0))
        return (
            f"load {load} on {found.get('cores', 1)} cores; memory "
            f"{found.get('memory_percent', 0):g} % used, {available} available; swap "
            f"{found.get('swap_percent', 0):g} % used"
        )

    @property
    def processes(self) -> list[str]:
        """The processes that use the most CPU and memory."""
        return [
            f"{self._line(row['name'])} ({row['pid']}): CPU {row['cpu_percent']} %, "
            f"{_size(row['rss_bytes'])}"
            for row in self._snapshot.get("processes", ())
        ]

    @property
    def running(self) -> list[str]:
        """The other jobs that were running, and where."""
        return [
            f"{self._line(row['job'])} on {self._line(row['host'])}"
            for row in self._snapshot.get("running", ())
            if row["job"] != self._but
        ]

    @property
    def locks(self) -> list[str]:
        """Sessions of the database that waited for another one."""
        return [
            f"session {row['waiting']} has waited {row['seconds']:g} s for session "
            f"{row['holding']} ({row['state']}): {self._line(row['query'])}"
            for row in self._snapshot.get("locks", ())
        ]

    @property
    def taken_at(self) -> datetime | None:
        """When it was taken."""
        text = self._snapshot.get("taken_at")
        return datetime.fromisoformat(text) if text else None

    def _line(self, text: object) -> str:
        return one_line(self._masker.mask_text(str(text)))


def _size(number: int) -> str:
    return filesizeformat(number).replace("\xa0", " ")
