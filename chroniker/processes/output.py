"""The output of a run within bounds: the head and the tail of each stream, with secrets masked.

Pure: bytes go in, pieces of text with their offset in the stream come out. A stream of any length
uses bounded memory. Only what is kept is decoded, so a job that prints a gigabyte is hardly slower
than one whose output is discarded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chroniker.masking import Masker, mask_spans

PIECE_BYTES = 64 * 1024
"""The largest piece: MariaDB closes the connection if a statement is too large."""
_SMALL = 4096
_MAX_SWITCHES = 200
"""How many changes between streams are kept in order between two calls of `take`."""


@dataclass(frozen=True, slots=True)
class OutputPiece:
    """A piece of one stream: ``size`` bytes from ``offset``, as text."""

    stream: str
    offset: int
    size: int
    text: str


class _StreamBuffer:
    """One stream: the bytes that are not stored yet, bounded by the tail that will be kept."""

    __slots__ = ("_chunks", "_context", "_held", "_limit", "_masker", "_small", "_start",
                 "_tail_size", "drained", "head_end", "stream", "total")  # fmt: skip

    def __init__(self, stream: str, limit: int, masker: Masker) -> None:
        self.stream = stream
        self.total = 0
        self.drained = 0  # everything before this offset is stored or dropped
        self.head_end = limit // 2  # moved to the start of a character once it is passed
        self._tail_size = limit - self.head_end
        self._limit = limit
        self._masker = masker
        # How many bytes before an offset show whether a secret or a character crosses it.
        self._context = max(masker.reach, 3)
        self._chunks: deque[bytes] = deque()
        self._small = bytearray()
        self._start = 0  # offset of the first byte held
        self._held = 0  # bytes in _chunks

    @property
    def oldest(self) -> int:
        """The offset of the tail; directly after the head while the limit is not exceeded."""
        return self.total - self._tail_size if self.total > self._limit else self.head_end

    def retains(self, piece: OutputPiece) -> bool:
        """Return whether some of the piece belongs to head or tail."""
        return piece.offset < self.head_end or piece.offset + piece.size > self.oldest

    def feed(self, data: bytes) -> bool:
        """Append ``data``; return whether more is held than can be kept."""
        self.total += len(data)
        if len(data) < _SMALL:  # many small writes would be many objects
            self._small += data
            if len(self._small) < PIECE_BYTES:
                return False
            data = bytes(self._small)
            self._small.clear()
        elif self._small:
            self._append(bytes(self._small))
            self._small.clear()
        self._append(data)
        return self._held > self._limit + self._context

    def _append(self, data: bytes) -> None:
        self._chunks.append(data)
        self._held += len(data)

    def discard_head(self) -> None:
        """Drop what is before the tail. Call it after the head was taken."""
        spare = self._tail_size + self._context
        while self._chunks and self._held - len(self._chunks[0]) >= spare:
            gone = len(self._chunks.popleft())
            self._held -= gone
            self._start += gone

    def take(self, upto: int, *, final: bool = False) -> list[OutputPiece]:
        """Return the pieces up to offset ``upto`` that were not taken before."""
        if upto <= self.drained:
            return []
        data, start = b"".join(self._chunks) + bytes(self._small), self._start
        end = start + len(data)
        if not final:
            upto = min(upto, end - self._masker.partial_secret(data))
        begin = self.drained
        if begin < self.head_end <= upto:
            self.head_end -= _incomplete_character(data, self.head_end - start)
        if not (final and upto == end):
            upto -= _incomplete_character(data, upto - start)
        if upto <= begin:
            return []
        pieces = list(self._pieces(data, begin, min(upto, self.head_end)))
        begin = max(begin, self.head_end)
        if begin < self.oldest:  # what is between is not kept
            begin = self.oldest - _incomplete_character(data, self.oldest - start)
        pieces += self._pieces(data, begin, upto)
        self.drained = upto
        self._retain_from(data, upto - self._context)
        return pieces

    def _retain_from(self, data: bytes, offset: int) -> None:
        """Keep ``data`` from about ``offset``: an exact cut would cost more copying."""
        gone = max(0, offset - self._start)
        if gone > PIECE_BYTES or gone == len(data):
            data = data[gone:]
            self._start += gone
        self._small.clear()
        self._chunks.clear()
        self._chunks.append(data)
        self._held = len(data)

    def _pieces(self, data: bytes, begin: int, upto: int) -> Iterator[OutputPiece]:
        """Yield ``begin`` to ``upto`` in pieces that cut no character."""
        if begin >= upto:
            return
        # Secrets that cross either end have to be found too.
        left = max(0, begin - self._start - self._masker.reach)
        window = data[left : upto - self._start + self._masker.reach]
        spans = self._masker.spans(window)
        shift = self._start + left
        position, stop = begin - shift, upto - shift
        while position < stop:
            cut = min(position + PIECE_BYTES, stop)
            if cut < stop:
                cut -= _incomplete_character(window, cut)
            text = mask_spans(window, spans, position, cut)
            yield OutputPiece(self.stream, shift + position, cut - position, text)
            position = cut


def _incomplete_character(data: bytes, end: int) -> int:
    """Return how many bytes before ``end`` belong to a UTF-8 character that crosses it."""
    for back in range(1, min(4, end + 1)):
        byte = data[end - back]
        if byte & 0xC0 == 0x80:
            continue
        length = (
            2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4 if byte >= 0xF0 else 1
        )
        return back if length > back else 0
    return 0


@dataclass(slots=True)
class OutputBatch:
    """What to store now, and which of the stored pieces to delete."""

    pieces: list[OutputPiece] = field(default_factory=list)
    expired: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Stream to ``(first, last)``: delete stored pieces that begin at ``first`` or later and end at
    ``last`` or earlier; they are no longer part of head or tail."""


class Recorder:
    """The streams of one run, in the order in which they were read."""

    def __init__(self, streams: Iterable[str], limit: int, masker: Masker) -> None:
        self._buffers = {stream: _StreamBuffer(stream, limit, masker) for stream in streams}
        self._order: list[tuple[str, int]] = []
        self._forced: list[OutputPiece] = []
        self._stored_tail: set[str] = set()
        self._dirty = False

    def feed(self, stream: str, data: bytes) -> None:
        """Append what was read from a stream."""
        buffer = self._buffers[stream]
        full = buffer.feed(data)
        self._dirty = True
        if self._order and self._order[-1][0] == stream:
            self._order[-1] = (stream, buffer.total)
        elif len(self._order) < _MAX_SWITCHES:
            self._order.append((stream, buffer.total))
        if full:
            if buffer.drained < buffer.head_end:
                self._take_head(buffer)
            buffer.discard_head()

    def _take_head(self, buffer: _StreamBuffer) -> None:
        """Take the head of a stream, after everything that was written before it."""
        while self._order:
            stream, upto = self._order[0]
            if stream == buffer.stream and upto > buffer.head_end:
                break
            self._forced += self._buffers[stream].take(upto)
            del self._order[0]
        self._forced += buffer.take(buffer.head_end)

    def total(self, stream: str) -> int:
        """Return the number of bytes read from a stream; 0 for a stream that is not kept."""
        return self._buffers[stream].total if stream in self._buffers else 0

    def take(self, *, final: bool = False) -> OutputBatch:
        """Return what was read since the last call. ``final``: nothing more will be read."""
        batch = OutputBatch()
        if not self._dirty and not final:
            return batch
        self._dirty = False
        batch.pieces = [p for p in self._forced if self._buffers[p.stream].retains(p)]
        self._forced = []
        for stream, upto in self._order:
            batch.pieces += self._buffers[stream].take(upto)
        self._order.clear()
        for stream, buffer in self._buffers.items():
            batch.pieces += buffer.take(buffer.total, final=final)
            if buffer.oldest > buffer.head_end and stream in self._stored_tail:
                batch.expired[stream] = (buffer.head_end, buffer.oldest)
            if buffer.drained > buffer.head_end:
                self._stored_tail.add(stream)
        return batch

    def put_back(self, batch: OutputBatch) -> None:
        """Return a batch that could not be stored; the next `take` includes it.

        The next `take` drops what is neither head nor tail, so this stays bounded.
        """
        self._forced = [*batch.pieces, *self._forced]
        self._dirty = True
