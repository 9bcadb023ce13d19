"""How far a run is: one call in the job, a fraction of a microsecond, no query and no system call.

The job writes two numbers into a page of memory that it shares with its supervisor, which looks
at the page once a second and stores what it finds. So progress is visible while the job is inside
a transaction, the last figures survive a SIGKILL, and a loop of a million calls costs next to
nothing.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

PAGE_VARIABLE = "CHRONIKER_PROGRESS_PAGE"
"""Environment variable: the file descriptor of the page, for a job in a fresh interpreter."""
FD_VARIABLE = "CHRONIKER_PROGRESS_FD"
"""Environment variable: the file descriptor to which a raw command writes ``done/total`` lines."""

_LAYOUT = struct.Struct("=qqqq")
PAGE_BYTES = 4096
_NAME = "chroniker-progress"
_pack_into = _LAYOUT.pack_into

_page: mmap.mmap | None = None
_looked_for_page = False
_ticket = 0


class ProgressPage:
    """The supervisor's end of a page; ``fd`` is what a spawned job inherits."""

    __slots__ = ("fd", "memory")

    def __init__(self) -> None:
        self.fd = os.memfd_create(_NAME, os.MFD_CLOEXEC)
        os.ftruncate(self.fd, PAGE_BYTES)
        self.memory = mmap.mmap(self.fd, PAGE_BYTES)

    def read(self) -> tuple[int, int, int] | None:
        """``(ticket, total, done)``, or None where nothing was told or it is being written."""
        first, total, done, last = _LAYOUT.unpack_from(self.memory)
        if first != last or first == 0:
            return None
        return first, total, done

    def close(self) -> None:
        """Give the memory back."""
        self.memory.close()
        os.close(self.fd)


def attach(page: mmap.mmap | None) -> None:
    """Make ``page`` the one that :func:`update_progress` writes, in a forked job."""
    global _page, _looked_for_page, _ticket
    _page = page
    _looked_for_page = True
    _ticket = 0


def update_progress(total_parts: int = 0, total_parts_complete: int = 0) -> None:
    """Tell that ``total_parts_complete`` of ``total_parts`` parts of this run are done.

    ``total_parts`` 0 means that their number is not known. Outside a run it does nothing. Raises
    TypeError where the numbers are not integers below 2**63.
    """
    global _ticket
    page = _page
    if page is None:
        if _looked_for_page:
            return
        page = _inherited_page()
        if page is None:
            return
    _ticket = ticket = _ticket + 1
    try:
        _pack_into(page, 0, ticket, total_parts, total_parts_complete, ticket)
    except struct.error:
        raise TypeError(
            "update_progress takes whole numbers below 2**63, not "
            f"{total_parts!r} and {total_parts_complete!r}."
        ) from None


def track(iterable: Iterable[T], total: int | None = None) -> Iterator[T]:
    """Yield what ``iterable`` yields and tell the run's progress by it.

    ``total`` is the number of its items; where it is not given it is asked of the iterable:
    ``count()`` of a queryset, ``len()`` of anything else that has one.
    """
    if total is None:
        total = _length(iterable)
    update_progress(total, 0)
    for done, item in enumerate(iterable, 1):
        yield item
        update_progress(total, done)


def _length(iterable: Any) -> int:
    if hasattr(iterable, "query") and hasattr(iterable, "count"):  # len() would fetch every row
        count: int = iterable.count()
        return count
    try:
        return len(iterable)
    except TypeError:
        return 0


def _inherited_page() -> mmap.mmap | None:
    """The page of a spawned job; found once, by its number and, to be sure, by its name."""
    global _page, _looked_for_page
    _looked_for_page = True
    number = os.environ.get(PAGE_VARIABLE, "")
    if not number.isdigit():
        return None
    try:
        # A program started by the job may have reused the number for a file of its own.
        if os.readlink(f"/proc/self/fd/{number}").startswith(f"/memfd:{_NAME}"):
            _page = mmap.mmap(int(number), PAGE_BYTES)
    except OSError:
        return None
    return _page


def parse_line(line: bytes) -> tuple[int, int] | None:
    """``(total, done)`` of a raw command's ``done/total`` line, None where it is something else."""
    done, _, total = line.partition(b"/")
    try:
        return int(total or 0), int(done)
    except ValueError:
        return None
