"""A stream that is written in small pieces is not read for each of them."""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator

import pytest

from chroniker.processes.read_pace import PAUSE_SECONDS, ReadPace

LINE = b"a line\n"
NOW = 1000.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that has something to read."""
    reader, writer = os.pipe()
    os.write(writer, LINE)
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def selector(pipe: tuple[int, int]) -> Iterator[selectors.EpollSelector]:
    """A selector that has the reading end, with "data"."""
    with selectors.EpollSelector() as selector:
        selector.register(pipe[0], selectors.EVENT_READ, "data")
        yield selector


def ready(selector: selectors.EpollSelector) -> list[object]:
    return [key.data for key, _ in selector.select(0)]


def test_stream_that_is_written_now_and_then_is_read_at_once(
    pipe: tuple[int, int], selector: selectors.EpollSelector
) -> None:
    pace = ReadPace(selector)
    for second in range(3):
        pace.note_read(pipe[0], len(LINE), NOW + second)
        assert ready(selector) == ["data"]
        assert pace.limit(1.0, NOW + second) == 1.0


def test_stream_that_is_written_all_the_time_is_paused(
    pipe: tuple[int, int], selector: selectors.EpollSelector
) -> None:
    pace = ReadPace(selector)
    pace.note_read(pipe[0], len(LINE), NOW)
    pace.note_read(pipe[0], len(LINE), NOW + 0.0001)
    assert ready(selector) == []
    assert pace.limit(1.0, NOW + 0.0001) == pytest.approx(PAUSE_SECONDS)
    assert ready(selector) == []
    assert pace.limit(1.0, NOW + 0.0002 + PAUSE_SECONDS) == 1.0
    assert ready(selector) == ["data"]


def test_stream_with_much_to_read_is_not_paused(
    pipe: tuple[int, int], selector: selectors.EpollSelector
) -> None:
    pace = ReadPace(selector)
    for number in range(10):
        pace.note_read(pipe[0], 65536, NOW + number * 1e-5)
    assert ready(selector) == ["data"]


@pytest.mark.parametrize("paused", [True, False])
def test_closed_stream_is_forgotten(
    pipe: tuple[int, int], selector: selectors.EpollSelector, paused: bool
) -> None:
    pace = ReadPace(selector)
    for _ in range(2 if paused else 1):
        pace.note_read(pipe[0], len(LINE), NOW)
    pace.forget(pipe[0])
    assert pace.limit(1.0, NOW + 1) == 1.0
    assert ready(selector) == []
    # The next pipe may have the same number.
    selector.register(pipe[0], selectors.EVENT_READ, "next")
    pace.note_read(pipe[0], len(LINE), NOW)
    assert ready(selector) == ["next"]
