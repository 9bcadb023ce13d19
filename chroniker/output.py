"""What a run writes, kept within bounds: decoded, secrets masked, head and tail of each stream.

Pure: bytes go in, pieces of text with their place in the stream come out. A stream of any length
costs bounded memory, and only what is kept is ever decoded, so that a job which prints a gigabyte
is hardly slower than one whose output is thrown away.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

MASK = "********"
PIECE_BYTES = 64 * 1024
"""The largest piece: MariaDB ends a connection over one large statement."""
_SMALL = 4096
_MAX_SWITCHES = 200
"""How often, between two takings, the order of the streams is followed."""

_SECRET_NAME = re.compile(
    r"SECRET|PASSW|PASSPHRASE|TOKEN|CREDENTIAL|SIGNATURE|DSN$"
    r"|(?:API|ACCESS|PRIVATE|AUTH|ENCRYPTION|SIGNING|LICEN[SC]E)_?KEY|(?:^|_)(?:PW|PASS)$|_PWD$|_KEY$",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@:\s]*:([^/@\s]+)@", re.IGNORECASE)
_SHORTEST_SECRET = 6
"""Shorter values ("on", "1234") are words of every output; masking them would hide it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of one stream: ``size`` bytes from ``offset`` on, as text."""

    stream: str
    offset: int
    size: int
    text: str


class Masker:
    """Replaces secret values in bytes."""

    __slots__ = ("_pattern", "_secrets", "longest")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        values = {secret.encode("utf-8", "surrogateescape") for secret in secrets if secret}
        self._secrets = sorted(values, key=len, reverse=True)
        self.longest = len(self._secrets[0]) if self._secrets else 0
        self._pattern = (
            re.compile(b"|".join(map(re.escape, self._secrets))) if self._secrets else None
        )

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where secrets stand, the longest one where several begin at one place."""
        return [match.span() for match in self._pattern.finditer(data)] if self._pattern else []

    def unfinished(self, data: bytes) -> int:
        """How many bytes at the end could be the beginning of a secret."""
        longest = 0
        for secret in self._secrets:
            for length in range(min(len(secret) - 1, len(data)), longest, -1):
                if data.endswith(secret[:length]):
                    longest = length
                    break
        return longest

    def mask_text(self, text: str) -> str:
        """``text`` with its secrets replaced."""
        if not self._pattern:
            return text
        data = self._pattern.sub(MASK.encode(), text.encode("utf-8", "surrogateescape"))
        return data.decode("utf-8", "backslashreplace")


class _Keeper:
    """One stream: what is not stored yet, bounded by the tail that will be kept."""

    __slots__ = ("_chunks", "_held", "_limit", "_masker", "_small", "_start", "stream", "taken",
                 "total")  # fmt: skip

    def __init__(self, stream: str, limit: int, masker: Masker) -> None:
        self.stream = stream
        self.total = 0
        self.taken = 0  # everything before this offset is stored or lost
        self._limit = limit
        self._masker = masker
        self._chunks: deque[bytes] = deque()
        self._small = bytearray()
        self._start = 0  # offset of the first byte held
        self._held = 0  # bytes in _chunks

    @property
    def head_end(self) -> int:
        return self._limit // 2

    @property
    def tail_size(self) -> int:
        return self._limit - self.head_end

    def feed(self, data: bytes) -> list[Piece]:
        """Take in ``data``; the pieces that must be stored because memory is bounded."""
        self.total += len(data)
        if len(data) < _SMALL:  # many small writes would be many objects
            self._small += data
            if len(self._small) < PIECE_BYTES:
                return []
            data = bytes(self._small)
            self._small.clear()
        elif self._small:
            self._append(bytes(self._small))
            self._small.clear()
        self._append(data)
        if self._held <= self._limit + self._masker.longest:
            return []
        pieces = self.take(self.head_end) if self.taken < self.head_end else []
        self._forget()
        return pieces

    def _append(self, data: bytes) -> None:
        self._chunks.append(data)
        self._held += len(data)

    def _forget(self) -> None:
        """Drop what lies before the tail, but for what could be the beginning of a secret."""
        spare = self.tail_size + self._masker.longest
        while self._chunks and self._held - len(self._chunks[0]) >= spare:
            gone = len(self._chunks.popleft())
            self._held -= gone
            self._start += gone

    def take(self, upto: int, *, final: bool = False) -> list[Piece]:
        """The pieces from what was taken before up to offset ``upto``, ready to be stored."""
        if upto <= self.taken:
            return []
        data = b"".join(self._chunks) + bytes(self._small)
        start, end = self._start, self._start + len(data)
        begin = self.taken
        if begin < start or (self.taken >= self.head_end and begin < self.total - self.tail_size):
            begin = max(start, self.total - self.tail_size, self.head_end)
        if not final:
            upto = min(upto, end - self._masker.unfinished(data[-self._masker.longest :]))
        upto = min(upto, end)
        spans = self._masker.spans(data)
        for first, last in spans:  # never cut through a secret
            if first + start < upto < last + start:
                upto = last + start
            if first + start < begin < last + start:
                begin = last + start
        if not (final and upto == end):
            upto -= _broken_character(data[: upto - start])
        if upto <= begin:
            return []
        pieces = list(self._pieces(data, start, spans, begin, upto))
        self.taken = upto
        self._chunks.clear()
        self._small.clear()
        # What was stored is kept a little longer: a secret may go on beyond it.
        rest = data[max(0, upto - start - self._masker.longest) :]
        self._start, self._held = end - len(rest), len(rest)
        if rest:
            self._chunks.append(rest)
        return pieces

    def _pieces(
        self, data: bytes, start: int, spans: list[tuple[int, int]], begin: int, upto: int
    ) -> Iterator[Piece]:
        """``begin`` to ``upto`` in pieces that cut neither secrets nor characters."""
        inside = [(a, b) for a, b in spans if a >= begin - start and b <= upto - start]
        position = begin - start
        stop = upto - start
        while position < stop:
            cut = min(position + PIECE_BYTES, stop)
            for first, last in inside:
                if first < cut < last:
                    cut = last
            if cut < stop:
                cut -= _broken_character(data[position:cut])
            parts: list[str] = []
            at = position
            for first, last in inside:
                if position <= first and last <= cut:
                    parts += (_decode(data[at:first]), MASK)
                    at = last
            parts.append(_decode(data[at:cut]))
            yield Piece(self.stream, start + position, cut - position, "".join(parts))
            position = cut


def _decode(data: bytes) -> str:
    """Text that every database takes: what is not UTF-8 is spelled out, NUL is left out."""
    return data.decode("utf-8", "backslashreplace").replace("\0", "")


def _broken_character(data: bytes) -> int:
    """How many bytes at the end are the beginning of a character of UTF-8 (RFC 3629)."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        length = (
            2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4 if byte >= 0xF0 else 1
        )
        return back if length > back and len(data) > back else 0
    return 0


@dataclass(slots=True)
class Taken:
    """What is to be stored now, and what of what was stored before is to be deleted."""

    pieces: list[Piece] = field(default_factory=list)
    expired: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Stream to ``(first, last)``: stored pieces that begin at ``first`` or later and end at
    ``last`` or earlier are no longer part of head or tail."""


class Recorder:
    """The streams of one run, in the order in which they were written as far as it is known."""

    def __init__(self, streams: Iterable[str], limit: int, masker: Masker) -> None:
        self._keepers = {stream: _Keeper(stream, limit, masker) for stream in streams}
        self._order: list[tuple[str, int]] = []
        self._forced: list[Piece] = []
        self._stored_tail: set[str] = set()
        self._dirty = False

    def feed(self, stream: str, data: bytes) -> None:
        """Take in what was read from a stream."""
        keeper = self._keepers[stream]
        self._forced += keeper.feed(data)
        self._dirty = True
        if self._order and self._order[-1][0] == stream:
            self._order[-1] = (stream, keeper.total)
        elif len(self._order) < _MAX_SWITCHES:
            self._order.append((stream, keeper.total))

    def total(self, stream: str) -> int:
        """Bytes seen of a stream; 0 for one that is not kept."""
        return self._keepers[stream].total if stream in self._keepers else 0

    def take(self, *, final: bool = False) -> Taken:
        """What has come since the last taking. ``final``: nothing more will come."""
        taken = Taken()
        if not self._dirty and not final:
            return taken
        self._dirty = False
        taken.pieces, self._forced = self._forced, []
        for stream, upto in self._order:
            taken.pieces += self._keepers[stream].take(upto)
        self._order.clear()
        for stream, keeper in self._keepers.items():
            taken.pieces += keeper.take(keeper.total, final=final)
            oldest = keeper.total - keeper.tail_size
            if oldest > keeper.head_end and stream in self._stored_tail:
                taken.expired[stream] = (keeper.head_end, oldest)
            if keeper.taken > keeper.head_end:
                self._stored_tail.add(stream)
        return taken

    def put_back(self, taken: Taken) -> None:
        """What was taken could not be stored: hand it out again at the next taking.

        What is put back is bounded: of each stream at most head and tail.
        """
        self._forced = [*taken.pieces, *self._forced]
        self._dirty = True
        for stream, keeper in self._keepers.items():
            oldest = keeper.total - keeper.tail_size
            self._forced = [
                piece
                for piece in self._forced
                if piece.stream != stream
                or piece.offset < keeper.head_end
                or piece.offset + piece.size > oldest
            ]
            if taken.expired.get(stream):
                self._stored_tail.add(stream)


def find_secrets(
    settings: Mapping[str, Any], environ: Mapping[str, str], names: Iterable[str] = ()
) -> set[str]:
    """Values that look secret by their names, wherever they stand in settings or environment.

    ``names`` are further names. Passwords inside URLs are found whatever the name.
    """
    wanted = {name.upper() for name in names}
    secrets: set[str] = set()
    _collect(settings, wanted, secrets, secret=False, depth=0)
    _collect(environ, wanted, secrets, secret=False, depth=0)
    return secrets


def _collect(value: Any, wanted: set[str], found: set[str], *, secret: bool, depth: int) -> None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        if secret and len(value) >= _SHORTEST_SECRET:
            found.add(value)
        elif match := _URL_PASSWORD.match(value):
            for password in (match[1], unquote(match[1])):
                if len(password) >= _SHORTEST_SECRET:
                    found.add(password)
    elif depth > 6:
        return
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            name = str(key)
            looks = secret or name.upper() in wanted or bool(_SECRET_NAME.search(name))
            _collect(inner, wanted, found, secret=looks, depth=depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            _collect(inner, wanted, found, secret=secret, depth=depth + 1)
