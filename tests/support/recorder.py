"""What the recorder of output is expected to store, and steps that feed it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

from hypothesis import strategies as st

from chroniker.masking import MASK, Masker
from chroniker.processes import output
from chroniker.processes.output import OutputBatch, OutputPiece, Recorder

STREAMS = ("stdout", "stderr")
NO_SECRETS = Masker()


def decoded(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace").replace("\0", "")


def masked_bytes(data: bytes, secrets: Sequence[str]) -> list[tuple[int, int]]:
    """The positions of secrets; overlapping ones are merged."""
    found = set()
    for secret in secrets:
        letters = [re.escape(bytes([byte])) for byte in secret.encode()]
        pattern = re.compile(b"(?=(" + rb"\0{0,3}".join(letters) + b"))")
        found |= {match.span(1) for match in pattern.finditer(data)}
    merged: list[tuple[int, int]] = []
    for first, last in sorted(found):
        if merged and first < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def expected_text(data: bytes, first: int, last: int, secrets: Sequence[str]) -> str:
    """The text of the bytes from ``first`` to ``last``, with secrets that start there masked."""
    parts, at = [], first
    for begin, end in masked_bytes(data, secrets):
        if end <= at or begin >= last:
            continue
        parts.append(decoded(data[at:begin]))
        if begin >= first:
            parts.append(MASK)
        at = min(end, last)
    return "".join([*parts, decoded(data[at:last])])


@dataclass
class OutputStore:
    """Stores drained output as output_store does, without a database."""

    pieces: list[OutputPiece] = field(default_factory=list)

    def add(self, drained: OutputBatch) -> None:
        self.pieces += drained.pieces
        for stream, (first, last) in drained.expired.items():
            self.pieces = [
                piece
                for piece in self.pieces
                if piece.stream != stream
                or not (piece.offset >= first and piece.offset + piece.size <= last)
            ]

    def of(self, stream: str) -> list[OutputPiece]:
        return sorted((p for p in self.pieces if p.stream == stream), key=lambda p: p.offset)

    def ranges(self, stream: str) -> list[tuple[int, int, str]]:
        """``(first, last, text)`` of each stored span without a gap; pieces must not overlap."""
        ranges: list[tuple[int, int, str]] = []
        for piece in self.of(stream):
            assert piece.size > 0
            first, last, text = ranges.pop() if ranges else (0, 0, "")
            assert piece.offset >= last, "two pieces overlap"
            if piece.offset > last:
                if last:
                    ranges.append((first, last, text))
                first, text = piece.offset, ""
            ranges.append((first, piece.offset + piece.size, text + piece.text))
        return ranges


@contextmanager
def small_pieces(size: int | None) -> Iterator[None]:
    """Shrink the buffers: a few hundred bytes then reach every boundary."""
    if size is None:
        yield
        return
    with patch.object(output, "PIECE_BYTES", size), patch.object(output, "_SMALL", size // 4):
        yield


fragments = st.one_of(
    st.binary(max_size=12),
    st.text("aé€𝄞\0 \n", max_size=12).map(str.encode),
    st.sampled_from((b"\xc3", b"\xa9", b"\xe2\x82", b"\xf0\x9d\x84", b"\xff", b"\0", b"\xf4\x90")),
)

TAKE, FAIL = "take", "fail"


@st.composite
def recorder_steps(
    draw: st.DrawFn, pieces_of_text: st.SearchStrategy[bytes] = fragments, *, fail: bool = False
) -> list[tuple[str, bytes]]:
    """Writes to the streams, with drains in between."""
    kinds = [*STREAMS, *STREAMS, TAKE, *([FAIL] if fail else [])]
    made = []
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=25)):
        data = b""
        if kind in STREAMS:
            data = draw(pieces_of_text) * draw(st.sampled_from((1, 1, 1, 3, 20)))
        made.append((kind, data))
    return made


def run_steps(
    recorder: Recorder, done: Sequence[tuple[str, bytes]]
) -> tuple[OutputStore, dict[str, bytes]]:
    """Perform the steps; what was stored and what was written."""
    store = OutputStore()
    written = dict.fromkeys(STREAMS, b"")
    for kind, data in done:
        if kind in STREAMS:
            recorder.feed(kind, data)
            written[kind] += data
        elif kind == TAKE:
            store.add(recorder.take())
        else:
            recorder.put_back(recorder.take())
    store.add(recorder.take(final=True))
    return store, written


def check_stored(
    store: OutputStore, written: Mapping[str, bytes], limit: int, secrets: Sequence[str]
) -> None:
    """Check every property of the stored output."""
    longest = max((len(secret.encode()) for secret in secrets), default=0)
    for stream, data in written.items():
        ranges = store.ranges(stream)
        kept = [(first, last) for first, last, _ in ranges]
        total, head = len(data), limit // 2 - 3
        if total <= limit:
            assert kept == ([(0, total)] if total else [])
        else:
            tail = total - (limit - limit // 2)
            assert head <= 0 or (kept[0][0] == 0 and kept[0][1] >= head), "a part of the head"
            assert tail == total or (kept[-1][0] <= tail and kept[-1][1] == total), "of the tail"
            size = sum(last - first for first, last in kept)
            assert size <= limit + output.PIECE_BYTES + longest + 3
        for first, last, text in ranges:
            assert text == expected_text(data, first, last, secrets)
            for secret in secrets:
                assert secret not in text
        if not secrets:
            for at in [edge for first, last, _ in ranges for edge in (first, last)]:
                assert decoded(data[:at]) + decoded(data[at:]) == decoded(data), "cut a character"
