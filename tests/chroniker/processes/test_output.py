"""The recorder of output: limits, order, what could not be stored."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import groupby

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chroniker.masking import Masker
from chroniker.processes import output
from chroniker.processes.output import OutputBatch, OutputPiece, Recorder
from tests.support.recorder import (
    NO_SECRETS,
    STREAMS,
    TAKE,
    OutputStore,
    check_stored,
    decoded,
    recorder_steps,
    run_steps,
    small_pieces,
)

quick = settings(max_examples=250, deadline=None)
few_examples = settings(max_examples=40, deadline=None)


# --- what is expected -----------------------------------------------------------------------


# --- what is written ------------------------------------------------------------------------


# --- head and tail --------------------------------------------------------------------------


@pytest.mark.slow
@quick
@given(done=recorder_steps(), size=st.sampled_from((None, 8, 64)))
@example(done=[("stdout", b"\xc3"), (TAKE, b""), ("stdout", b"\xa9")], size=None)
@example(done=[("stdout", b"a"), (TAKE, b""), ("stdout", b"\xc3"), (TAKE, b""),
               ("stdout", b"\xa9")], size=None)  # fmt: skip
def test_output_within_the_limit_is_stored_unchanged(
    done: list[tuple[str, bytes]], size: int | None
) -> None:
    with small_pieces(size):
        store, written = run_steps(Recorder(STREAMS, 100_000, NO_SECRETS), done)
        check_stored(store, written, 100_000, ())
    for stream, data in written.items():
        assert "".join(piece.text for piece in store.of(stream)) == decoded(data)


@pytest.mark.slow
@quick
@given(
    done=recorder_steps(), limit=st.integers(0, 300), size=st.sampled_from((None, 8, 64)),
)  # fmt: skip
@example(done=[("stdout", "€".encode() * 100)], limit=10, size=8)
@example(done=[("stdout", b"a" * 60_000)], limit=1024, size=None)
@example(done=[("stdout", b"\xc0\xc0"), (TAKE, b"")], limit=2, size=None)
@example(done=[("stdout", b"x" * 40), ("stderr", b"x" * 40), ("stdout", b"x" * 20)],
         limit=23, size=8)  # fmt: skip
def test_output_beyond_the_limit_is_stored_as_head_and_tail(
    done: list[tuple[str, bytes]], limit: int, size: int | None
) -> None:
    with small_pieces(size):
        store, written = run_steps(Recorder(STREAMS, limit, NO_SECRETS), done)
        check_stored(store, written, limit, ())


@few_examples
@given(
    blocks=st.lists(st.integers(1, 300_000), min_size=1, max_size=12),
    takes=st.sets(st.integers(0, 11)),
    limit=st.sampled_from((1024, 65_536, 200_001)),
)
@example(blocks=[1, *[65536] * 11], takes=set(), limit=200_001)
def test_head_and_tail_hold_at_the_sizes_of_real_pipes(
    blocks: list[int], takes: set[int], limit: int
) -> None:
    pattern = "Grüße 0123456789\n".encode() * 20_000
    done = []
    for number, size in enumerate(blocks):
        done.append(("stdout", pattern[:size]))
        if number in takes:
            done.append((TAKE, b""))
    store, written = run_steps(Recorder(STREAMS, limit, NO_SECRETS), done)
    check_stored(store, written, limit, ())


@pytest.mark.parametrize("limit", [0, 1, 2, 3])
def test_tiny_limit_keeps_almost_nothing(limit: int) -> None:
    store, written = run_steps(Recorder(STREAMS, limit, NO_SECRETS), [("stdout", b"x" * 200_000)])

    check_stored(store, written, limit, ())
    assert sum(piece.size for piece in store.pieces) == limit


def test_pieces_stay_below_the_size_a_database_accepts() -> None:
    recorder = Recorder(STREAMS, 2**20, Masker(["a secret"]))
    recorder.feed("stdout", b"\xff" * 2**20)

    pieces = recorder.take(final=True).pieces

    assert max(piece.size for piece in pieces) <= output.PIECE_BYTES
    assert max(len(piece.text) for piece in pieces) <= 4 * output.PIECE_BYTES


def test_nothing_is_drained_without_output() -> None:
    recorder = Recorder(STREAMS, 1000, NO_SECRETS)

    assert recorder.take() == OutputBatch()
    recorder.feed("stdout", b"once")
    assert [piece.text for piece in recorder.take().pieces] == ["once"]
    assert recorder.take() == OutputBatch()
    assert recorder.take(final=True) == OutputBatch()


def test_totals_count_written_bytes_and_not_stored_bytes() -> None:
    recorder = Recorder(("stdout",), 10, NO_SECRETS)

    recorder.feed("stdout", b"\0" * 1000)

    assert recorder.total("stdout") == 1000
    assert recorder.total("stderr") == 0


@pytest.mark.parametrize("block", [100, 65536, 2**20])
@pytest.mark.parametrize("takes", [False, True])
def test_large_output_needs_bounded_memory(block: int, takes: bool) -> None:
    limit = 2**18
    recorder = Recorder(STREAMS, limit, Masker(["some secret"]))
    tracemalloc.start()
    try:
        for number in range(max(8, 2**22 // block)):
            recorder.feed("stdout", b"%c" % (97 + number % 20) * block)
            if takes and number % 50 == 0:
                recorder.take()
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * limit + 3 * block + 2 * 65536
    assert peak < 6 * limit + 6 * block + 4 * 65536


# --- order ----------------------------------------------------------------------------------


def sequence(pieces: Sequence[OutputPiece]) -> list[tuple[str, str]]:
    return [
        (stream, "".join(piece.text for piece in group))
        for stream, group in groupby(pieces, key=lambda piece: piece.stream)
    ]


@quick
@given(
    writes=st.lists(st.tuples(st.sampled_from(STREAMS), st.text("abc", min_size=1)), max_size=60),
    takes=st.sets(st.integers(0, 59)),
    size=st.sampled_from((None, 8)),
)
def test_streams_keep_the_order_of_writing(
    writes: list[tuple[str, str]], takes: set[int], size: int | None
) -> None:
    with small_pieces(size):
        recorder, store = Recorder(STREAMS, 100_000, NO_SECRETS), OutputStore()
        for number, (stream, text) in enumerate(writes):
            recorder.feed(stream, text.encode())
            if number in takes:
                store.add(recorder.take())
        store.add(recorder.take(final=True))
    wanted = [
        (stream, "".join(text for _, text in group))
        for stream, group in groupby(writes, key=lambda write: write[0])
    ]
    assert sequence(store.pieces) == wanted


def test_each_stream_stays_in_order_beyond_the_switch_limit() -> None:
    recorder = Recorder(STREAMS, 2**20, NO_SECRETS)
    bound = output._MAX_SWITCHES
    lines = [(STREAMS[number % 2], f"{number}\n") for number in range(5 * bound)]
    for stream, text in lines:
        recorder.feed(stream, text.encode())

    pieces = recorder.take(final=True).pieces

    assert sequence(pieces)[: bound - 1] == lines[: bound - 1]
    for name in STREAMS:
        whole = "".join(piece.text for piece in pieces if piece.stream == name)
        assert whole == "".join(text for stream, text in lines if stream == name)


def test_large_output_does_not_precede_earlier_output() -> None:
    recorder = Recorder(STREAMS, 2**18, NO_SECRETS)
    recorder.feed("stderr", b"starting\n")
    recorder.feed("stdout", b"first\n")
    recorder.feed("stderr", b"careful\n")
    for _ in range(20):
        recorder.feed("stdout", b"x" * 65536)

    reported = sequence(recorder.take(final=True).pieces)

    assert reported[:3] == [
        ("stderr", "starting\n"),
        ("stdout", "first\n"),
        ("stderr", "careful\n"),
    ]
    assert {stream for stream, _ in reported[3:]} == {"stdout"}


# --- what could not be stored ---------------------------------------------------------------


@pytest.mark.slow
@quick
@given(
    done=recorder_steps(fail=True), limit=st.integers(1, 2000), size=st.sampled_from((None, 8, 64)),
)  # fmt: skip
def test_returned_output_is_neither_lost_nor_duplicated(
    done: list[tuple[str, bytes]], limit: int, size: int | None
) -> None:
    with small_pieces(size):
        store, written = run_steps(Recorder(STREAMS, limit, NO_SECRETS), done)
        check_stored(store, written, limit, ())


def test_returned_output_stays_bounded_in_a_long_outage() -> None:
    limit = 2**17
    recorder = Recorder(STREAMS, limit, NO_SECRETS)
    sizes = []
    for number in range(100):
        for stream in STREAMS:
            recorder.feed(stream, b"%c" % (97 + number % 20) * 50_000)
        drained = recorder.take()
        sizes.append(sum(piece.size for piece in drained.pieces))
        recorder.put_back(drained)
    assert max(sizes) <= 2 * (limit + 2 * output.PIECE_BYTES)

    store = OutputStore()
    store.add(recorder.take(final=True))
    for stream in STREAMS:
        pieces = store.of(stream)
        assert sum(piece.size for piece in pieces) <= limit + output.PIECE_BYTES
        assert pieces[-1].offset + pieces[-1].size == 5_000_000


# --- secrets --------------------------------------------------------------------------------


# --- masks in texts -------------------------------------------------------------------------


# --- finding secrets ------------------------------------------------------------------------


# --- speed ----------------------------------------------------------------------------------


def seconds(function: Callable[[], object], repeat: int = 3) -> float:
    best = float("inf")
    for _ in range(repeat):
        begin = time.process_time()
        function()
        best = min(best, time.process_time() - begin)
    return best


@pytest.mark.parametrize("kind", ["ascii", "characters", "small limit"])
def test_discarding_output_is_as_fast_as_copying_it(kind: str) -> None:
    # Three bytes per character: the head would end inside one.
    block = ("€" * 21845 if kind == "characters" else "x" * 65536).encode()
    count = 200 * 2**20 // len(block)
    limit = 4096 if kind == "small limit" else 2**20
    masker = Masker([f"secret number {number}" for number in range(20)])

    def feed() -> None:
        recorder = Recorder(STREAMS, limit, masker)
        for _ in range(count):
            recorder.feed("stdout", block)

    def copy() -> None:
        for _ in range(count):
            len(bytearray(block))

    assert seconds(feed) < 3 * seconds(copy) + 0.01


@pytest.mark.parametrize("nuls", [b"", b"\0"])
def test_draining_takes_milliseconds_for_any_interleaving(
    nuls: bytes,
) -> None:
    limit = 2**20
    recorder = Recorder(STREAMS, limit, Masker([f"secret number {n}" for n in range(30)]))
    line = b"2026-07-01 12:00:00 INFO a line of secrets, no secret though\n" + nuls
    for _ in range(output._MAX_SWITCHES // 2):
        recorder.feed("stderr", b"?")
        recorder.feed("stdout", line * (limit // len(line) // (output._MAX_SWITCHES // 2)))

    assert seconds(lambda: recorder.take(final=True), repeat=1) < 0.4
