"""What a run writes, kept within bounds: decoded, secrets masked, head and tail of each stream.

Pure: bytes go in, pieces of text with their place in the stream come out. A stream of any length
costs bounded memory, and only what is kept is ever decoded, so that a job which prints a gigabyte
is hardly slower than one whose output is thrown away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chroniker.masking import Masker, _masked

PIECE_BYTES = 64 * 1024
"""The largest piece: MariaDB ends a connection over one large statement."""
_SMALL = 4096
_MAX_SWITCHES = 200
"""How often, between two takings, the order of the streams is followed."""


@dataclass(frozen=True, slots=True)
class OutputPiece:
    """A piece of one stream: ``size`` bytes from ``offset`` on, as text."""

    stream: str
    offset: int
    size: int
    text: str


class _StreamBuffer:
    """One stream: what is not stored yet, bounded by the tail that will be kept."""

    __slots__ = ("_chunks", "_context", "_held", "_limit", "_masker", "_small", "_start",
                 "_tail_size", "drained", "head_end", "stream", "total")  # fmt: skip

    def __init__(self, stream: str, limit: int, masker: Masker) -> None:
        self.stream = stream
        self.total = 0
        self.drained = 0  # everything before this offset is stored or lost
        self.head_end = limit // 2  # at a character's beginning, once it was passed
        self._tail_size = limit - self.head_end
        self._limit = limit
        self._masker = masker
        # How many bytes before an offset tell whether a secret or a character reaches beyond it.
        self._context = max(masker.reach, 3)
        self._chunks: deque[bytes] = deque()
        self._small = bytearray()
        self._start = 0  # offset of the first byte held
        self._held = 0  # bytes in _chunks

    @property
    def oldest(self) -> int:
        """Where the tail begins: right behind the head, as long as nothing is too much."""
        return self.total - self._tail_size if self.total > self._limit else self.head_end

    def retains(self, piece: OutputPiece) -> bool:
        """Whether some of it belongs to head or tail."""
        return piece.offset < self.head_end or piece.offset + piece.size > self.oldest

    def feed(self, data: bytes) -> bool:
        """Take in ``data``; whether more is held now than can be kept."""
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
        """Drop what lies before the tail; to be called when the head has been taken."""
        spare = self._tail_size + self._context
        while self._chunks and self._held - len(self._chunks[0]) >= spare:
            gone = len(self._chunks.popleft())
            self._held -= gone
            self._start += gone

    def take(self, upto: int, *, final: bool = False) -> list[OutputPiece]:
        """The pieces from what was taken before up to offset ``upto``, ready to be stored."""
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
        if begin < self.oldest:  # what lies between is not kept
            begin = self.oldest - _incomplete_character(data, self.oldest - start)
        pieces += self._pieces(data, begin, upto)
        self.drained = upto
        self._retain_from(data, upto - self._context)
        return pieces

    def _retain_from(self, data: bytes, offset: int) -> None:
        """Hold ``data`` from about ``offset`` on: less would be more copying."""
        gone = max(0, offset - self._start)
        if gone > PIECE_BYTES or gone == len(data):
            data = data[gone:]
            self._start += gone
        self._small.clear()
        self._chunks.clear()
        self._chunks.append(data)
        self._held = len(data)

    def _pieces(self, data: bytes, begin: int, upto: int) -> Iterator[OutputPiece]:
        """From offset ``begin`` to ``upto`` in pieces that cut no characters."""
        if begin >= upto:
            return
        # What tells where secrets stand: those that reach in from either side, too.
        left = max(0, begin - self._start - self._masker.reach)
        window = data[left : upto - self._start + self._masker.reach]
        spans = self._masker.spans(window)
        shift = self._start + left
        position, stop = begin - shift, upto - shift
        while position < stop:
            cut = min(position + PIECE_BYTES, stop)
            if cut < stop:
                cut -= _incomplete_character(window, cut)
            text = _masked(window, spans, position, cut)
            yield OutputPiece(self.stream, shift + position, cut - position, text)
            position = cut


def _incomplete_character(data: bytes, end: int) -> int:
    """How many bytes before ``end`` are the beginning of a character of UTF-8 (RFC 3629)."""
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
    """What is to be stored now, and what of what was stored before is to be deleted."""

    pieces: list[OutputPiece] = field(default_factory=list)
    expired: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Stream to ``(first, last)``: stored pieces that begin at ``first`` or later and end at
    ``last`` or earlier are no longer part of head or tail."""


class Recorder:
    """The streams of one run, in the order in which they were written as far as it is known."""

    def __init__(self, streams: Iterable[str], limit: int, masker: Masker) -> None:
        self._buffers = {stream: _StreamBuffer(stream, limit, masker) for stream in streams}
        self._order: list[tuple[str, int]] = []
        self._forced: list[OutputPiece] = []
        self._stored_tail: set[str] = set()
        self._dirty = False

    def feed(self, stream: str, data: bytes) -> None:
        """Take in what was read from a stream."""
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
        """Its head, and before that what was written before it."""
        while self._order:
            stream, upto = self._order[0]
            if stream == buffer.stream and upto > buffer.head_end:
                break
            self._forced += self._buffers[stream].take(upto)
            del self._order[0]
        self._forced += buffer.take(buffer.head_end)

    def total(self, stream: str) -> int:
        """Bytes seen of a stream; 0 for one that is not kept."""
        return self._buffers[stream].total if stream in self._buffers else 0

    def take(self, *, final: bool = False) -> OutputBatch:
        """What has come since the last taking. ``final``: nothing more will come."""
        drained = OutputBatch()
        if not self._dirty and not final:
            return drained
        self._dirty = False
        drained.pieces = [p for p in self._forced if self._buffers[p.stream].retains(p)]
        self._forced = []
        for stream, upto in self._order:
            drained.pieces += self._buffers[stream].take(upto)
        self._order.clear()
        for stream, buffer in self._buffers.items():
            drained.pieces += buffer.take(buffer.total, final=final)
            if buffer.oldest > buffer.head_end and stream in self._stored_tail:
                drained.expired[stream] = (buffer.head_end, buffer.oldest)
            if buffer.drained > buffer.head_end:
                self._stored_tail.add(stream)
        return drained

    def put_back(self, drained: OutputBatch) -> None:
        """What was taken could not be stored: hand it out again at the next taking.

        Of each stream that is at most head and tail, because the next taking drops the rest.
        """
        self._forced = [*drained.pieces, *self._forced]
        self._dirty = True
