"""Secrets are found in settings and environment, and masked in whatever is stored."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any
from urllib.parse import unquote

from django.conf import global_settings, settings

from .conf import conf


def site_secrets() -> set[str]:
    """Values of settings and environment that must not appear in what is kept of a run."""
    ours = {
        name: getattr(settings, name)
        for name in dir(settings)
        if name.isupper() and (not hasattr(global_settings, name) or name in _SECRET_SETTINGS)
    }
    ours.pop("CHRONIKER_SECRET_NAMES", None)
    return find_secrets(ours, os.environ, conf.SECRET_NAMES)


_SECRET_SETTINGS = {
    "SECRET_KEY", "SECRET_KEY_FALLBACKS", "EMAIL_HOST_PASSWORD", "DATABASES", "CACHES", "STORAGES",
}  # fmt: skip


MASK = "********"


_SECRET_NAME = re.compile(
    r"SECRET|PASSW|PASSPHRASE|TOKEN|CREDENTIAL|SIGNATURE|DSN$"
    r"|(?:API|ACCESS|PRIVATE|AUTH|ENCRYPTION|SIGNING|LICEN[SC]E)_?KEY|(?:^|_)(?:PW|PASS)$|_PWD$|_KEY$",
    re.IGNORECASE,
)


_URL_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@:\s]*:([^/?#\s]+)@", re.IGNORECASE)


_SHORTEST_SECRET = 6
"""Shorter values ("on", "1234") are words of every output; masking them would hide it."""


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

    def partial_secret(self, data: bytes) -> int:
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


def find_secrets(
    settings: Mapping[str, Any], environ: Mapping[str, str], names: Iterable[str] = ()
) -> set[str]:
    """Values that look secret by their names, wherever they stand in settings or environment.

    ``names`` are further names. Passwords inside URLs are found whatever the name.
    """
    wanted = {name.upper() for name in names}
    secrets: set[str] = set()
    _collect_secrets(settings, wanted, secrets, secret=False, depth=0)
    _collect_secrets(environ, wanted, secrets, secret=False, depth=0)
    return secrets


def _collect_secrets(
    value: Any, wanted: set[str], found: set[str], *, secret: bool, depth: int
) -> None:
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
            _collect_secrets(inner, wanted, found, secret=looks, depth=depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            _collect_secrets(inner, wanted, found, secret=secret, depth=depth + 1)
