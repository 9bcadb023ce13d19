"""Progress: two numbers in shared memory, and the lines of raw commands."""

from __future__ import annotations

import inspect
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chroniker import progress
from chroniker.progress import PAGE_BYTES, ProgressPage, parse_line, track, update_progress
from tests.support.machine import REPO
from tests.support.types import RunInFork

MAX_VALUE = 2**63 - 1


@pytest.fixture
def page() -> Iterator[ProgressPage]:
    """The page of a run; the test acts as its process."""
    made = ProgressPage()
    progress.attach(made.memory)
    yield made
    progress.attach(None)
    made.close()


@pytest.fixture
def outside_run() -> Iterator[None]:
    """A process that does not belong to a run."""
    progress.attach(None)
    yield
    progress.attach(None)


def read_progress(page: ProgressPage) -> tuple[int, int] | None:
    """``(total, done)`` as the supervisor reads it."""
    read = page.read()
    return read and read[1:]


# --- update_progress ------------------------------------------------------------------------


def test_page_is_empty_until_first_write(page: ProgressPage) -> None:
    assert page.read() is None


def test_written_value_is_read_and_ticket_detects_changes(page: ProgressPage) -> None:
    update_progress(total_parts=77, total_parts_complete=13)
    first = page.read()
    assert first is not None and first[1:] == (77, 13)
    assert page.read() == first

    update_progress(77, 13)
    second = page.read()
    assert second is not None and second[0] != first[0]


@pytest.mark.parametrize(
    "numbers", [(0, 0), (-1, -5), (MAX_VALUE, MAX_VALUE), (-MAX_VALUE - 1, 3), (5, 9)]
)
def test_every_64_bit_number_is_read_unchanged(
    page: ProgressPage, numbers: tuple[int, int]
) -> None:
    update_progress(*numbers)

    assert read_progress(page) == numbers


@pytest.mark.parametrize(
    "value", [1.5, "7", None, MAX_VALUE + 1, -MAX_VALUE - 2, 10**30, [], b"1", 3 + 0j]
)
def test_invalid_progress_is_rejected_and_the_last_value_stays(
    page: ProgressPage, value: Any
) -> None:
    update_progress(10, 4)
    for numbers in ((value, 1), (1, value)):
        with pytest.raises(TypeError, match="whole numbers below") as raised:
            update_progress(*numbers)
        assert repr(value) in str(raised.value)
        assert read_progress(page) == (10, 4)

    update_progress(10, 5)
    assert read_progress(page) == (10, 5)


def test_outside_a_run_nothing_happens(outside_run: None) -> None:
    update_progress(10, 1)
    assert list(track(iter("abc"))) == ["a", "b", "c"]


def test_progress_call_takes_about_a_microsecond(page: ProgressPage) -> None:
    def calls() -> float:
        begin = time.process_time()
        for done in range(20_000):
            update_progress(20_000, done)
        return time.process_time() - begin

    assert min(calls() for _ in range(3)) / 20_000 < 5e-6


def _write_as_fast_as_possible(page: ProgressPage, seconds: float) -> int:
    progress.attach(page.memory)
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        for _ in range(500):
            number += 1
            update_progress(number << 20, -(number << 20))
    return number


def test_no_value_is_read_half_written(run_in_fork: RunInFork) -> None:
    page = ProgressPage()
    writer = run_in_fork(_write_as_fast_as_possible, page, 0.5)
    seen: set[tuple[int, int, int]] = set()
    reads = last = 0
    while writer.alive:
        for _ in range(200):
            reads += 1
            if read := page.read():
                stamp, total, done = read
                assert total == -done, "a torn value"
                assert stamp >= last, "time went back"
                last = stamp
                seen.add(read)
    ended = writer.wait()
    assert ended.exit_code == 0, ended.output
    final = page.read()
    assert final is not None and final[1] >> 20 == ended.value
    assert reads > 1000
    assert len(seen) > 10
    page.close()


def _write_progress_and_exit(page: ProgressPage) -> None:
    progress.attach(page.memory)
    update_progress(100, 42)
    os.kill(os.getpid(), 9)


def test_last_progress_survives_sigkill(run_in_fork: RunInFork) -> None:
    page = ProgressPage()

    run_in_fork(_write_progress_and_exit, page).wait(10)

    assert read_progress(page) == (100, 42)
    page.close()


def test_closed_page_releases_descriptor_and_memory() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        ProgressPage().close()
    assert len(os.listdir("/proc/self/fd")) == before


# --- track ----------------------------------------------------------------------------------


class FakeRows:
    """The part of a queryset that track() uses; counting must not fetch rows."""

    query = "SELECT"

    def __init__(self, number: int) -> None:
        self.number = number
        self.counted = 0

    def count(self) -> int:
        self.counted += 1
        return self.number

    def __len__(self) -> int:
        raise AssertionError("len() of a queryset fetches every row")

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.number))


@pytest.mark.parametrize(
    ("made", "total"),
    [
        (lambda: [1, 2, 3], 3),
        (lambda: range(3), 3),
        (lambda: {"a": 1, "b": 2, "c": 3}, 3),
        (lambda: (number for number in range(3)), 0),
        (lambda: iter([1, 2, 3]), 0),
        (lambda: FakeRows(3), 3),
    ],
)
def test_track_counts_each_finished_item(
    page: ProgressPage, made: Callable[[], Any], total: int
) -> None:
    seen = [(item, read_progress(page)) for item in track(made())]

    assert [item for item, _ in seen] == [*iter(made())]
    assert [read_progress for _, read_progress in seen] == [(total, 0), (total, 1), (total, 2)]
    assert read_progress(page) == (total, 3)


def test_track_uses_the_given_total(page: ProgressPage) -> None:
    rows = FakeRows(3)
    list(track(rows, total=7))
    assert read_progress(page) == (7, 3)
    assert rows.counted == 0

    list(track((n for n in range(2)), 0))
    assert read_progress(page) == (0, 2)


@pytest.mark.parametrize("empty", [(), "", {}, range(0), iter(())])
def test_track_of_an_empty_iterable_is_done(page: ProgressPage, empty: Any) -> None:
    assert list(track(empty)) == []
    assert read_progress(page) == (0, 0)


def test_failed_item_is_not_counted(page: ProgressPage) -> None:
    with pytest.raises(ZeroDivisionError):
        for item in track([3, 2, 1, 0, 5]):
            _ = 1 / item

    assert read_progress(page) == (5, 3)


def test_leaving_the_loop_closes_the_iterator(page: ProgressPage) -> None:
    closed = []

    def numbers() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    tracked = track(numbers(), total=10)
    for item in tracked:
        if item == 4:
            break
    assert inspect.isgenerator(tracked)
    tracked.close()

    assert read_progress(page) == (10, 4)
    assert closed


def test_error_of_the_iterable_is_raised(page: ProgressPage) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        list(track(broken(), total=5))

    assert read_progress(page) == (5, 1)


def test_track_rejects_a_total_that_is_not_a_number(page: ProgressPage) -> None:
    with pytest.raises(TypeError, match=r"whole numbers.*'many'"):
        list(track([1], total="many"))  # type: ignore[arg-type]


def test_outside_a_run_track_counts_no_rows(outside_run: None) -> None:
    rows = FakeRows(3)

    assert list(track(rows)) == [0, 1, 2]
    assert rows.counted == 0


# --- lines of raw commands ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"13/77", (77, 13)),
        (b" 13 / 77 \r", (77, 13)),
        (b"13", (0, 13)),
        (b"13/", (0, 13)),
        (b"0/0", (0, 0)),
        (b"%d/%d" % (MAX_VALUE, MAX_VALUE), (MAX_VALUE, MAX_VALUE)),
        (b"", None),
        (b"/", None),
        (b"/77", None),
        (b"13/77/2", None),
        (b"half/77", None),
        (b"1.5/2", None),
        (b"13 of 77", None),
        (b"\xff\xfe/\x00", None),
        ("١/٢".encode(), None),
        (b"1/%d" % (MAX_VALUE + 1), None),
        (b"%d/1" % 10**30, None),
        (b"-%d/1" % 10**30, None),
        (b"9" * 4500, None),
    ],
)
def test_line_is_clamped_to_database_range(line: bytes, parts: tuple[int, int] | None) -> None:
    assert parse_line(line) == parts


@given(done=st.integers(0, MAX_VALUE), total=st.integers(0, MAX_VALUE))
def test_progress_line_round_trips(done: int, total: int) -> None:
    assert parse_line(f"{done}/{total}".encode()) == (total, done)


@given(st.one_of(st.binary(), st.from_regex(rb"[-+_ 0-9/]*", fullmatch=True)))
@example(b"1/" + b"9" * 30)
def test_any_line_is_parsed_without_error(line: bytes) -> None:
    parts = parse_line(line)

    assert parts is None or all(-MAX_VALUE - 1 <= number <= MAX_VALUE for number in parts)


# --- the page of a spawned job --------------------------------------------------------------

SPAWNED_PROGRAM = """
import sys
from chroniker.progress import track, update_progress
update_progress(9, 3)
list(track([1, 2]))
update_progress(9, 4)
"""


def spawn(number: str, *inherited: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SPAWNED_PROGRAM],
        env=os.environ | {progress.PAGE_VARIABLE: number, "PYTHONPATH": str(REPO)},
        pass_fds=inherited,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_spawned_process_finds_its_page() -> None:
    page = ProgressPage()

    ended = spawn(str(page.fd), page.fd)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert read_progress(page) == (9, 4)
    page.close()


def test_reused_descriptor_is_not_written(tmp_path: Any) -> None:
    file = os.open(tmp_path / "chroniker-progress", os.O_RDWR | os.O_CREAT)
    other = os.memfd_create("other")
    before = b"somebody's data" * 1000
    for fd in (file, other):
        os.write(fd, before)

        ended = spawn(str(fd), fd)

        assert (ended.returncode, ended.stderr) == (0, "")
        with mmap.mmap(fd, 0) as memory:
            assert memory[:] == before
        os.close(fd)


def test_empty_page_is_ignored() -> None:
    empty = os.memfd_create("chroniker-progress")

    ended = spawn(str(empty), empty)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert os.fstat(empty).st_size == 0 < PAGE_BYTES
    os.close(empty)


@pytest.mark.parametrize("number", ["", "999", "-1", "one", "../0", "²", "9" * 30])
def test_invalid_descriptor_is_ignored(number: str, monkeypatch: Any) -> None:
    monkeypatch.setenv(progress.PAGE_VARIABLE, number)
    monkeypatch.setattr(progress, "_page", None)
    monkeypatch.setattr(progress, "_page_searched", False)

    update_progress(3, 1)

    assert progress._page is None
