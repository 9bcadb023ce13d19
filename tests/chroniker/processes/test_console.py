"""What a job prints is written at once, whole, and with few system calls."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from chroniker.models import Run
from chroniker.processes.console import Console, print_at_once
from tests.factories import make_action_job
from tests.support.runs import stored_output
from tests.support.types import RunTick


@pytest.fixture
def packets() -> Iterator[tuple[Console, Callable[[], list[bytes]]]]:
    """A console on a pipe that keeps writes apart (O_DIRECT), and what was written to it."""
    reader, writer = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    os.set_blocking(writer, True)

    def read() -> list[bytes]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(reader, 65536):
                found.append(piece)
        return found

    yield Console(writer), read
    os.close(reader)
    os.close(writer)


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("unprintable")


@pytest.mark.parametrize(
    ("values", "options", "written"),
    [
        (("one line",), {}, b"one line\n"),
        ((), {}, b"\n"),
        (("a", 1, None), {}, b"a 1 None\n"),
        (("a", "b"), {"sep": "-", "end": ""}, b"a-b"),
        (("Grüße \ud800",), {}, b"Gr\xc3\xbc\xc3\x9fe \\ud800\n"),
        (("flushed",), {"flush": True}, b"flushed\n"),
    ],
)
def test_print_is_one_write(
    packets: tuple[Console, Callable[[], list[bytes]]],
    values: tuple[object, ...],
    options: dict[str, str],
    written: bytes,
) -> None:
    console, read = packets
    with contextlib.redirect_stdout(console):
        print_at_once(*values, **options)  # type: ignore[arg-type]
    assert read() == [written]


@pytest.mark.parametrize("options", [{"sep": None, "end": None}, {"sep": 1}, {"end": b"x"}])
def test_print_reads_its_arguments_as_the_original(
    packets: tuple[Console, Callable[[], list[bytes]]], options: dict[str, object]
) -> None:
    console, read = packets
    outcomes = []
    for function in (print, print_at_once):
        try:
            function("a", "b", file=console, **options)  # type: ignore[operator]
            outcomes.append(b"".join(read()))
        except TypeError as error:
            outcomes.append(str(error).encode())
    assert outcomes[0] == outcomes[1]


def test_value_that_cannot_be_printed_raises(
    packets: tuple[Console, Callable[[], list[bytes]]],
) -> None:
    console, _ = packets
    with pytest.raises(ValueError, match="unprintable"):
        print_at_once("a", Unprintable(), file=console)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_signals_do_not_shorten_a_long_text(encoding: str) -> None:
    """A system call that a signal interrupts may have written a part."""
    reader, writer = os.pipe()
    text = "0123456789 äöü\n" * 100_000
    found = bytearray()

    def drain() -> None:
        while piece := os.read(reader, 4096):
            found.extend(piece)

    console = Console(writer)
    console.reconfigure(encoding=encoding)
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    thread = threading.Thread(target=drain)
    thread.start()
    try:
        assert console.write(text) == len(text)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.close(writer)
        thread.join()
        os.close(reader)
    assert found.decode(encoding) == text


@pytest.mark.django_db(transaction=True)
@pytest.mark.one_database
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_nothing_that_was_printed_is_lost_by_sigkill(
    run_tick: RunTick, settings: object, start_method: str
) -> None:
    settings.CHRONIKER_START_METHOD = start_method  # type: ignore[attr-defined]
    job = make_action_job("print_and_die 5000 half")
    run_tick()
    run = Run.objects.get(job=job)
    assert run.signal == signal.SIGKILL
    lines = stored_output(run, "stdout").split("\n")
    assert lines == [f"line {number}" for number in range(5000)] + ["half"]
