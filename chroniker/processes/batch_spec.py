"""What a batch is, as it is sent to its process, and the page that scheduler and guard share."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from chroniker.progress import PAGE_BYTES

from .child import CommandSpec

MAX_ITEMS = 1000
"""The maximum number of runs of a batch."""
MAX_WORKERS = 500
"""The maximum number of workers of a batch."""
_STOPS_AT = 256
"""Where the bits of the items that are to be stopped begin; before it is the progress of runs."""
_STOP_BYTES = (MAX_ITEMS + 7) // 8
_SLOTS_AT = 1024
_SLOT = struct.Struct("=H")
_NO_STOPS = bytes(_STOP_BYTES)

Facts = dict[str, Any]
"""JSON, which only these processes write."""
Values = list[Any]
"""The same."""


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """A run of a batch."""

    spec: CommandSpec
    job: int
    """The primary key of the job."""
    host: str
    """The placement."""
    timeout_seconds: float | None
    grace_seconds: float

    def dump(self) -> Values:
        """Return it as JSON can hold it."""
        values = [getattr(self, name) for name in _ENTRY]
        values[0] = [getattr(self.spec, name) for name in _SPEC]
        return values

    @classmethod
    def load(cls, values: Values) -> BatchEntry:
        """Read what :meth:`dump` returned."""
        spec, *others = values
        facts = dict(zip(_SPEC, spec, strict=True))
        return cls(CommandSpec(**{**facts, "args": tuple(facts["args"])}), *others)


# Not asdict(), which copies each value: there are hundreds of entries.
_ENTRY = tuple(field.name for field in fields(BatchEntry))
_SPEC = tuple(field.name for field in fields(CommandSpec))


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """Runs that are executed by the workers of one process."""

    runner: str
    """The name in the registry of :mod:`chroniker.extensions`."""
    entries: tuple[BatchEntry, ...]
    max_workers: int

    def dump(self) -> Facts:
        """Return it as JSON can hold it."""
        entries = [entry.dump() for entry in self.entries]
        return {"runner": self.runner, "entries": entries, "max_workers": self.max_workers}

    @classmethod
    def load(cls, values: Facts) -> BatchSpec:
        """Read what :meth:`dump` returned."""
        entries = tuple(BatchEntry.load(entry) for entry in values["entries"])
        return cls(values["runner"], entries, values["max_workers"])


class BatchPage:
    """The shared page: which items the scheduler stops, and which items are in progress.

    What is in progress has to be known when the guard has been killed, so the guard writes it here
    before a worker can begin.
    """

    __slots__ = ("_memory",)

    def __init__(self, memory: Any) -> None:  # Any: mmap, which has no common type with bytearray
        self._memory = memory

    def stop(self, item: int) -> None:
        """Scheduler: request that an item is stopped, or not begun."""
        self._memory[_STOPS_AT + item // 8] |= 1 << item % 8

    def stopped(self) -> Iterator[int]:
        """Guard: the items that were requested to stop."""
        bits = self._memory[_STOPS_AT : _STOPS_AT + _STOP_BYTES]
        if bits == _NO_STOPS:
            return
        for at, byte in enumerate(bits):
            for bit in range(8) if byte else ():
                if byte >> bit & 1:
                    yield at * 8 + bit

    def begin(self, slot: int, item: int) -> None:
        """Guard: the worker of a slot begins an item."""
        _SLOT.pack_into(self._memory, _SLOTS_AT + slot * _SLOT.size, item + 1)

    def end(self, slot: int) -> None:
        """Guard: the worker of a slot has ended its item."""
        _SLOT.pack_into(self._memory, _SLOTS_AT + slot * _SLOT.size, 0)

    def in_progress(self) -> set[int]:
        """Scheduler: the items that were in progress when the guard died."""
        end = _SLOTS_AT + MAX_WORKERS * _SLOT.size
        found = {number for (number,) in _SLOT.iter_unpack(self._memory[_SLOTS_AT:end])}
        return {number - 1 for number in found if number}


assert _SLOTS_AT >= _STOPS_AT + _STOP_BYTES
assert _SLOTS_AT + MAX_WORKERS * _SLOT.size <= PAGE_BYTES
