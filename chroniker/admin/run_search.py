"""Searching the stored output of a run, with memory that does not depend on its size."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.html import format_html
from django.utils.safestring import SafeString

from chroniker.models import OutputChunk

from .ansi import plain_text

MAX_FOUND = 100
"""Lines in a result."""
_SHOWN = 300
"""Characters of a line that are shown."""
_MAX_LINE = 100_000
"""Characters of a line that are searched."""


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line that contains the text."""

    number: int
    stream: str
    chunk: int
    """The key of the chunk in which the line begins."""
    html: SafeString

    @property
    def before(self) -> int:
        """The key after which the page begins to show the line."""
        return self.chunk - 1


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The first lines that contain the text."""

    text: str
    lines: list[FoundLine]
    more: bool


@dataclass(slots=True)
class _OpenLine:
    """The beginning of a line whose end is in a later chunk."""

    text: str = ""
    number: int = 0
    chunk: int = 0


def search_output(chunks: Iterable[OutputChunk], text: str) -> SearchResult:
    """Find the lines that contain ``text``, whatever its case."""
    pattern = re.compile(re.escape(text), re.IGNORECASE)
    open_lines: dict[str, _OpenLine] = {}
    found: list[FoundLine] = []
    number = 1
    for chunk in chunks:
        before = open_lines.setdefault(chunk.stream, _OpenLine())
        lines = chunk.text.split("\n")
        if not before.text:
            before.number, before.chunk = number, chunk.pk
        for position, line in enumerate(lines):
            before.text = (before.text + line)[:_MAX_LINE]
            if position == len(lines) - 1:
                break
            _match(pattern, before, chunk.stream, found)
            if len(found) > MAX_FOUND:
                return SearchResult(text, found[:MAX_FOUND], more=True)
            number += 1
            before.text, before.number, before.chunk = "", number, chunk.pk
    for stream, rest in open_lines.items():
        _match(pattern, rest, stream, found)
    found.sort(key=lambda line: line.number)
    return SearchResult(text, found[:MAX_FOUND], more=len(found) > MAX_FOUND)


def _match(pattern: re.Pattern[str], line: _OpenLine, stream: str, found: list[FoundLine]) -> None:
    plain = plain_text(line.text)
    match = pattern.search(plain)
    if match is None:
        return
    begin = max(0, match.start() - _SHOWN // 3)
    end = min(len(plain), begin + _SHOWN)
    html = format_html(
        "{}{}<mark>{}</mark>{}{}",
        "…" if begin else "",
        plain[begin : match.start()],
        plain[match.start() : match.end()],
        plain[match.end() : max(end, match.end())],
        "…" if end < len(plain) else "",
    )
    found.append(FoundLine(line.number, stream, line.chunk, html))
