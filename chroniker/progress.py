"""Progress of a run: one call in the job, which takes less than a microsecond.

The job writes two numbers into a page of memory that it shares with its supervisor, without a query
and without a system call. The supervisor reads the page once a second and stores the numbers. So
progress is visible while the job is inside a transaction, the last numbers survive SIGKILL, and a
loop of a million calls costs almost nothing.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Sized
from time import monotonic_ns
from typing import TypeVar

T = TypeVar("T")

PAGE_VARIABLE = "CHRONIKER_PROGRESS_PAGE"
"""Environment variable: the file descriptor of the page, for a job in a fresh interpreter."""
FD_VARIABLE = "CHRONIKER_PROGRESS_FD"
"""Environment variable: the file descriptor to which a raw command writes ``done/total`` lines."""

_LAYOUT = struct.Struct("=qqqq")
"""Time of the report (monotonic, nanoseconds), total, done, and a hash of the three: struct clears
the memory before it writes, so a reader could see any mixture of new, old and zero bytes."""
_SLOT_BYTES = 64  # bytes of a cache line
_SLOTS = (0, _SLOT_BYTES)
"""Written alternately, so that the previous numbers survive if the writer is killed."""
PAGE_BYTES = 4096
_MAX_NUMBER = 2**63 - 1
_NAME = "chroniker-progress"
_pack_into = _LAYOUT.pack_into

_page: mmap.mmap | None = None
_page_searched = False
_slot = 0


class ProgressPage:
    """A page as the supervisor uses it; a spawned job inherits ``fd``."""

    __slots__ = ("_newest", "fd", "memory")

    def __init__(self) -> None:
        self.fd = os.memfd_create(_NAME, os.MFD_CLOEXEC)
        os.ftruncate(self.fd, PAGE_BYTES)
        self.memory = mmap.mmap(self.fd, PAGE_BYTES)
        self._newest: tuple[int, int, int] | None = None

    def read(self) -> tuple[int, int, int] | None:
        """Return ``(stamp, total, done)`` as last reported, or None; stamps increase."""
        for slot in _SLOTS:
            *values, check = _LAYOUT.unpack_from(self.memory, slot)
            stamp, total, done = values
            if check != hash((stamp, total, done)) or not stamp:
                continue  # it is being written, or nothing was written
            if self._newest is None or stamp > self._newest[0]:
                self._newest = stamp, total, done
        return self._newest

    def close(self) -> None:
        """Release the memory."""
        self.memory.close()
        os.close(self.fd)


def attach(page: mmap.mmap | None) -> None:
    """Set the page that :func:`update_progress` writes, in a forked job."""
    global _page, _page_searched
    _page = page
    _page_searched = True


def update_progress(total_parts: int = 0, total_parts_complete: int = 0) -> None:
    """Report that ``total_parts_complete`` of ``total_parts`` parts of this run are done.

    ``total_parts`` is 0 if the number is not known. Outside a run this does nothing. Raises
    TypeError if the numbers are not integers below 2**63.
    """
    global _slot
    page = _page
    if page is None:
        if _page_searched:
            return
        page = _inherited_page()
        if page is None:
            return
    stamp, slot = monotonic_ns(), _slot
    try:
        check = hash((stamp, total_parts, total_parts_complete))
        _pack_into(page, slot, stamp, total_parts, total_parts_complete, check)
    except (struct.error, TypeError):
        raise TypeError(
            "update_progress takes whole numbers below 2**63, not "
            f"{total_parts!r} and {total_parts_complete!r}."
        ) from None
    _slot = _SLOT_BYTES - slot


def track(iterable: Iterable[T], total: int | None = None) -> Iterator[T]:
    """Yield the items of ``iterable`` and report each as progress of the run.

    ``total`` is the number of items. The default is ``count()`` of a queryset, or ``len()`` of
    anything else that has one; outside a run neither is called.
    """
    if total is None:
        inside = _page or (None if _page_searched else _inherited_page())
        total = _length(iterable) if inside is not None else 0
    update_progress(total, 0)
    for done, item in enumerate(iterable, 1):
        yield item
        update_progress(total, done)


def _length(iterable: object) -> int:
    if hasattr(iterable, "query") and hasattr(iterable, "count"):  # len() would fetch every row
        return int(iterable.count())
    return len(iterable) if isinstance(iterable, Sized) else 0


def _inherited_page() -> mmap.mmap | None:
    """Find the page of a spawned job, once, by its number; the name is checked too."""
    global _page, _page_searched
    _page_searched = True
    number = os.environ.get(PAGE_VARIABLE, "")
    if not number.isdigit():
        return None
    try:
        # A program that the job started may use the number for one of its own files.
        if os.readlink(f"/proc/self/fd/{number}").startswith(f"/memfd:{_NAME}"):
            _page = mmap.mmap(int(number), PAGE_BYTES)
    except (OSError, ValueError):  # ValueError: the file is too small
        return None
    return _page


def parse_line(line: bytes) -> tuple[int, int] | None:
    """Return ``(total, done)`` of a raw command's ``done/total`` line, or None for other text.

    Numbers must be integers below 2**63: databases store no larger ones.
    """
    done, _, total = line.partition(b"/")
    try:
        parts = int(total or 0), int(done)
    except ValueError:
        return None
    return parts if all(-_MAX_NUMBER <= number <= _MAX_NUMBER for number in parts) else None
