"""Find secrets in settings and environment, and mask them in everything that is stored.

``processes.output`` masks the output of runs as it is read; emails, webhooks and monitors mask
their texts with the same class.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from urllib.parse import unquote

from django.conf import global_settings, settings

from .conf import conf

_kept: frozenset[str] | None = None


def keep_secrets() -> None:
    """Read the secrets once for the rest of this process: finding them takes a millisecond."""
    global _kept
    _kept = None
    _kept = frozenset(site_secrets())


def site_secrets() -> set[str]:
    """Return values of settings and environment that must not be stored with a run."""
    if _kept is not None:
        return set(_kept)
    ours = {
        name: getattr(settings, name)
        for name in dir(settings)
        if name.isupper()
        and (not hasattr(global_settings, name) or name in _SECRET_SETTINGS)
        # Django warns about each reading of a deprecated setting, even if the site has not set it.
        and (name != "EMAIL_HOST_PASSWORD" or settings.is_overridden(name))  # type: ignore[misc]
    }
    ours.pop("CHRONIKER_SECRET_NAMES", None)
    tokens = find_url_tokens([ours.get(name) for name in _URL_SETTINGS])
    return tokens | find_secrets(ours, os.environ, conf.SECRET_NAMES)


_SECRET_SETTINGS = {
    "SECRET_KEY", "SECRET_KEY_FALLBACKS", "EMAIL_HOST_PASSWORD", "DATABASES", "CACHES", "STORAGES",
}  # fmt: skip
_URL_SETTINGS = ("CHRONIKER_APPRISE_URLS", "CHRONIKER_DEADMAN_URL", "CHRONIKER_WEBHOOK_URL")
"""Whoever knows such a URL may send to it: a part of its path is the secret."""
MASK = "********"
CUT = "…"
"""The end of a text that was too long."""


def shorten(text: str, length: int) -> str:
    """Return at most ``length`` characters of a text that is masked later."""
    return text if len(text) <= length else text[: length - 1] + CUT


_SECRET_NAME = re.compile(
    r"SECRET|PASSW|PASSPHRASE|TOKEN|CREDENTIAL|SIGNATURE|DSN$"
    r"|(?:API|ACCESS|PRIVATE|AUTH|ENCRYPTION|SIGNING|LICEN[SC]E)_?KEY|(?:^|_)(?:PW|PASS)$|_PWD$|_KEY$",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@:\s]*:([^/?#\s]+)@", re.IGNORECASE)
_SHORTEST_SECRET = 6
"""Shorter values ("on", "1234") are in every output; masking them would make it unreadable."""


class Masker:
    """Finds secret values in bytes.

    A byte is masked if any secret covers it, so the result depends neither on where the search
    began nor on how secrets overlap. A secret is also found with up to three NULs between two of
    its bytes, as in UTF-16 and UTF-32, because NULs are removed from the stored text.
    """

    __slots__ = ("_gaps", "_secrets", "reach")

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        values = {_encode(secret).replace(b"\0", b"") for secret in secrets} - {b""}
        self._secrets = sorted(values, key=len, reverse=True)
        self._gaps: dict[bytes, re.Pattern[bytes]] = {}
        self.reach = 4 * len(self._secrets[0]) if self._secrets else 0
        """The maximum length of an occurrence of a secret, in bytes."""

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Return the occurrences of secrets in order; overlapping ones are merged."""
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
        """Return how many bytes at the end may be the beginning of a secret."""
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

    def without_partial_secrets(self, head: bytes, tail: bytes) -> tuple[bytes, bytes]:
        """Shorten two pieces between which something was omitted, perhaps in a secret."""
        end = len(head) - self.partial_secret(head)
        for first, last in self.spans(head):
            if first < end < last:
                end = first
        begin = min(self.reach, len(tail))
        for first, last in self.spans(tail):
            if first < begin < last:
                begin = last
        return head[:end], tail[begin:]

    def mask_text(self, text: str) -> str:
        """Return ``text`` with its secrets masked, in a form that every database accepts."""
        data = _encode(text)
        return mask_spans(data, self.spans(data), 0, len(data))

    def mask_shortened(self, text: str) -> str:
        """The same; without the beginning of a secret before the sign that the rest was cut off."""
        if text.endswith(CUT):
            head, _ = self.without_partial_secrets(_encode(text.removesuffix(CUT)), b"")
            text = head.decode("utf-8", "surrogateescape") + CUT
        return self.mask_text(text)


def mask_spans(data: bytes, spans: list[tuple[int, int]], first: int, last: int) -> str:
    """Return ``data[first:last]`` as text, with a mask for each of ``spans`` that begins there."""
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
    """Return text that every database accepts: invalid UTF-8 is escaped, NUL is removed."""
    return data.decode("utf-8", "backslashreplace").replace("\0", "")


def _encode(text: str) -> bytes:
    """The bytes that ``text`` was decoded from (PEP 383), whatever else is in it."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair
        return text.encode("utf-8", "backslashreplace")


def _without_nul(data: bytes) -> bytes:
    """``data`` itself if it contains no NUL."""
    return data.translate(None, b"\0") if b"\0" in data else data


def find_secrets(
    settings: Mapping[str, object], environ: Mapping[str, str], names: Iterable[str] = ()
) -> set[str]:
    """Return the values whose names look secret, at any depth of settings or environment.

    ``names`` are additional names. Passwords in URLs are found under any name.
    """
    wanted = {name.upper() for name in names}
    secrets: set[str] = set()
    _collect_secrets(settings, wanted, secrets, secret=False, depth=0)
    _collect_secrets(environ, wanted, secrets, secret=False, depth=0)
    return secrets


def find_url_tokens(value: object) -> set[str]:
    """Return the parts of URLs, at any depth, that look like tokens and not like words."""
    if isinstance(value, str):
        scheme, _, rest = value.partition("://")
        if scheme in _SCHEMES_WITH_HOST:
            place, _, path = rest.partition("/")
            rest = f"{place.rpartition('@')[0]}/{path}"
        parts = {unquote(part) for part in _URL_DELIMITERS.split(rest)}
        return {part for part in parts if _TOKEN.fullmatch(part)}
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return {token for each in value for token in find_url_tokens(each)}
    return set()


_SCHEMES_WITH_HOST = frozenset({"http", "https", "json", "jsons", "xml", "xmls", "form", "forms"})
"""Others may have a token where these have the name of a host."""
_URL_DELIMITERS = re.compile(r"[/:@?&=#]")
_TOKEN = re.compile(r"(?=.*\d|.*[a-z].*[A-Z]|.*[A-Z].*[a-z])[^.]{6,}")
"""At least six characters, with a digit or letters of both cases."""


def _collect_secrets(
    value: object, wanted: set[str], found: set[str], *, secret: bool, depth: int
) -> None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        value = value.replace(
            "\0", ""
        ).strip()  # the last newline of a file is not part of the secret
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
            is_secret = secret or name.upper() in wanted or bool(_SECRET_NAME.search(name))
            _collect_secrets(inner, wanted, found, secret=is_secret, depth=depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            _collect_secrets(inner, wanted, found, secret=secret, depth=depth + 1)
