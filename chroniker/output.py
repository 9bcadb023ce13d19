"""What a run writes, kept within bounds: decoded, secrets masked, head and tail of each stream.

Pure: bytes go in, pieces of text with their place in the stream come out. A stream of any length
costs bounded memory, and only what is kept is ever decoded, so that a job which prints a gigabyte
is hardly slower than one whose output is thrown away.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
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
_URL_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@:\s]*:([^/?#\s]+)@", re.IGNORECASE)
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
    """Finds secret values in bytes.

    A byte is masked where any secret covers it, so what is masked depends neither on where the
    looking began nor on how secrets overlap. Up to three NULs between two bytes of a secret hide
    it from nobody, because NULs are left out of the text: UTF-16 and UTF-32 have them.
    """

    __slots__ = ("_gaps", "_secrets", "reach")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        values = {_encode(secret).replace(b"\0", b"") for secret in secrets} - {b""}
        self._secrets = sorted(values, key=len, reverse=True)
        self._gaps: dict[bytes, re.Pattern[bytes]] = {}
        self.reach = 4 * len(self._secrets[0]) if self._secrets else 0
        """The most bytes that one occurrence of a secret takes up."""

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where secrets stand, in order; those that overlap are one."""
        found: list[tuple[int, int]] = []
        plain = _without_nul(data)
        for secret in self._secrets:
            if secret in plain:
                found += self._occurrences(secret, data, gaps=plain is not data)
        found.sort()
        merged: list[tuple[int, int]] = []
        for first, last in found:
            if merged and first < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return merged

    def _occurrences(self, secret: bytes, data: bytes, *, gaps: bool) -> Iterator[tuple[int, int]]:
        if not gaps:
            at = data.find(secret)
            while at >= 0:
                yield at, at + len(secret)
                at = data.find(secret, at + 1)
            return
        if secret not in self._gaps:
            letters = (re.escape(secret[at : at + 1]) for at in range(len(secret)))
            self._gaps[secret] = re.compile(rb"\0{0,3}".join(letters))
        match = self._gaps[secret].search(data)
        while match:
            yield match.span()
            match = self._gaps[secret].search(data, match.start() + 1)

    def unfinished(self, data: bytes) -> int:
        """How many bytes at the end could be the beginning of a secret."""
        if not self._secrets:
            return 0
        data = data[-self.reach :]
        plain = _without_nul(data)
        longest = 0
        for secret in self._secrets:
            for length in range(min(len(secret) - 1, len(plain)), longest, -1):
                if plain.endswith(secret[:length]):
                    longest = length
                    break
        back = 0
        while longest:
            back += 1
            longest -= data[-back] != 0
        return back

    def mask_text(self, text: str) -> str:
        """``text`` as every database takes it, with its secrets replaced."""
        data = _encode(text)
        return _masked(data, self.spans(data), 0, len(data))


class _Keeper:
    """One stream: what is not stored yet, bounded by the tail that will be kept."""

    __slots__ = ("_chunks", "_context", "_held", "_limit", "_masker", "_small", "_start",
                 "_tail_size", "head_end", "stream", "taken", "total")  # fmt: skip

    def __init__(self, stream: str, limit: int, masker: Masker) -> None:
        self.stream = stream
        self.total = 0
        self.taken = 0  # everything before this offset is stored or lost
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

    def keeps(self, piece: Piece) -> bool:
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

    def forget(self) -> None:
        """Drop what lies before the tail; to be called when the head has been taken."""
        spare = self._tail_size + self._context
        while self._chunks and self._held - len(self._chunks[0]) >= spare:
            gone = len(self._chunks.popleft())
            self._held -= gone
            self._start += gone

    def take(self, upto: int, *, final: bool = False) -> list[Piece]:
        """The pieces from what was taken before up to offset ``upto``, ready to be stored."""
        if upto <= self.taken:
            return []
        data, start = b"".join(self._chunks) + bytes(self._small), self._start
        end = start + len(data)
        if not final:
            upto = min(upto, end - self._masker.unfinished(data))
        begin = self.taken
        if begin < self.head_end <= upto:
            self.head_end -= _broken_character(data, self.head_end - start)
        if not (final and upto == end):
            upto -= _broken_character(data, upto - start)
        if upto <= begin:
            return []
        pieces = list(self._pieces(data, begin, min(upto, self.head_end)))
        begin = max(begin, self.head_end)
        if begin < self.oldest:  # what lies between is not kept
            begin = self.oldest - _broken_character(data, self.oldest - start)
        pieces += self._pieces(data, begin, upto)
        self.taken = upto
        self._keep_from(data, upto - self._context)
        return pieces

    def _keep_from(self, data: bytes, offset: int) -> None:
        """Hold ``data`` from about ``offset`` on: less would be more copying."""
        gone = max(0, offset - self._start)
        if gone > PIECE_BYTES or gone == len(data):
            data = data[gone:]
            self._start += gone
        self._small.clear()
        self._chunks.clear()
        self._chunks.append(data)
        self._held = len(data)

    def _pieces(self, data: bytes, begin: int, upto: int) -> Iterator[Piece]:
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
                cut -= _broken_character(window, cut)
            text = _masked(window, spans, position, cut)
            yield Piece(self.stream, shift + position, cut - position, text)
            position = cut


def _masked(data: bytes, spans: list[tuple[int, int]], first: int, last: int) -> str:
    """``data[first:last]`` as text, each of ``spans`` that begins there replaced by a mask."""
    parts: list[str] = []
    at = first
    for index in range(bisect_right(spans, first, key=itemgetter(1)), len(spans)):
        begin, end = spans[index]
        if begin >= last:
            break
        parts.append(_decode(data[at:begin]))
        if begin >= first:
            parts.append(MASK)
        at = min(end, last)
    parts.append(_decode(data[at:last]))
    return "".join(parts)


def _decode(data: bytes) -> str:
    """Text that every database takes: what is not UTF-8 is spelled out, NUL is left out."""
    return data.decode("utf-8", "backslashreplace").replace("\0", "")


def _encode(text: str) -> bytes:
    """The bytes that ``text`` was decoded from (PEP 383), whatever else is in it."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair
        return text.encode("utf-8", "backslashreplace")


def _without_nul(data: bytes) -> bytes:
    """``data`` itself where there is no NUL in it."""
    return data.translate(None, b"\0") if b"\0" in data else data


def _broken_character(data: bytes, end: int) -> int:
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
        full = keeper.feed(data)
        self._dirty = True
        if self._order and self._order[-1][0] == stream:
            self._order[-1] = (stream, keeper.total)
        elif len(self._order) < _MAX_SWITCHES:
            self._order.append((stream, keeper.total))
        if full:
            if keeper.taken < keeper.head_end:
                self._take_head(keeper)
            keeper.forget()

    def _take_head(self, keeper: _Keeper) -> None:
        """Its head, and before that what was written before it."""
        while self._order:
            stream, upto = self._order[0]
            if stream == keeper.stream and upto > keeper.head_end:
                break
            self._forced += self._keepers[stream].take(upto)
            del self._order[0]
        self._forced += keeper.take(keeper.head_end)

    def total(self, stream: str) -> int:
        """Bytes seen of a stream; 0 for one that is not kept."""
        return self._keepers[stream].total if stream in self._keepers else 0

    def take(self, *, final: bool = False) -> Taken:
        """What has come since the last taking. ``final``: nothing more will come."""
        taken = Taken()
        if not self._dirty and not final:
            return taken
        self._dirty = False
        taken.pieces = [p for p in self._forced if self._keepers[p.stream].keeps(p)]
        self._forced = []
        for stream, upto in self._order:
            taken.pieces += self._keepers[stream].take(upto)
        self._order.clear()
        for stream, keeper in self._keepers.items():
            taken.pieces += keeper.take(keeper.total, final=final)
            if keeper.oldest > keeper.head_end and stream in self._stored_tail:
                taken.expired[stream] = (keeper.head_end, keeper.oldest)
            if keeper.taken > keeper.head_end:
                self._stored_tail.add(stream)
        return taken

    def put_back(self, taken: Taken) -> None:
        """What was taken could not be stored: hand it out again at the next taking.

        Of each stream that is at most head and tail, because the next taking drops the rest.
        """
        self._forced = [*taken.pieces, *self._forced]
        self._dirty = True


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
        value = value.replace("\0", "").strip()  # a file's last newline is no part of its secret
        match = _URL_PASSWORD.match(value)
        texts = {value} if secret else set()
        if match:
            texts |= {match[1], unquote(match[1])}
        found.update(text for text in texts if len(text) >= _SHORTEST_SECRET)
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
