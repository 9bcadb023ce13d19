"""Pieces of output as HTML: numbered lines with terminal colours, bounded in number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from .ansi import AnsiStyle, render_line, style_after

MAX_LINES = 5000
"""The maximum number of lines on a page or in one response."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive text of one stream. ``gap`` is the line shown before it, or empty."""

    stream: str
    text: str
    gap: str = ""
    line: int = 1
    """The number of its first line in the stored output."""
    style: str = ""
    """The colours and styles in force at its begin, as parameters of a terminal sequence."""

    def as_json(self) -> dict[str, str | int | bool]:
        """As the live tail receives it."""
        return {
            "stream": self.stream,
            "gap": self.gap,
            "line": self.line,
            "html": self.lines_html(),
            "length": len(self.text),
            "open": self.is_open,
            "overwrites": "\r" in self._plain.partition("\n")[0],
            "returns": self.returns,
        }

    @property
    def is_open(self) -> bool:
        """Whether its last line has no end yet."""
        return bool(self.text) and not self.text.endswith("\n")

    @property
    def returns(self) -> bool:
        """Whether what follows overwrites its last line, as progress bars do."""
        return self.text.endswith("\r")

    @property
    def _plain(self) -> str:
        return self.text.replace("\r\n", "\n")

    def lines_html(self) -> SafeString:
        """The lines as items of a list, with terminal colours."""
        style = AnsiStyle()
        style.apply(self.style)
        lines = self._plain.split("\n")
        if not lines[-1]:
            lines.pop()
        return format_html_join("", "<li>{}</li>", ((render_line(line, style),) for line in lines))

    def html(self) -> SafeString:
        """The whole list of lines, numbered."""
        items = self.lines_html()
        return format_html('<ol class="chroniker-lines" start="{}">{}</ol>', self.line, items)

    def cut(self, start: int) -> Segment:
        """The segment from the character ``start`` on."""
        return replace(
            self,
            text=self.text[start:],
            gap="",
            line=self.line + self.text.count("\n", 0, start),
            style=style_after(self.text[:start], self.style),
        )


def count_newlines(segments: Iterable[Segment]) -> int:
    """How many line ends there are."""
    return sum(segment.text.count("\n") for segment in segments)


def shorten(segments: Sequence[Segment], limit: int) -> Sequence[Segment]:
    """Keep the last ``limit`` characters: escaped bytes make text longer than its stream."""
    left = limit
    kept: list[Segment] = []
    for segment in reversed(segments):
        if len(segment.text) > left:
            if left:
                kept.append(segment.cut(len(segment.text) - left))
            return kept[::-1]
        kept.append(segment)
        left -= len(segment.text)
    return segments


def limit_lines(segments: Sequence[Segment], limit: int = MAX_LINES) -> Sequence[Segment]:
    """Keep the last ``limit`` lines, below a line that says how many are left out."""
    over = count_newlines(segments) - limit
    if over <= 0:
        return segments
    gap = _("… %(number)s lines are not shown; the download has them …") % {
        "number": intcomma(over)
    }
    kept: list[Segment] = []
    for segment in segments:
        lines = segment.text.count("\n")
        if over <= 0:
            kept.append(segment)
        elif lines > over or (lines == over and segment.is_open):
            start = 0
            for _number in range(over):
                start = segment.text.index("\n", start) + 1
            kept.append(segment.cut(start))
        over -= lines
    return [Segment(segments[-1].stream, "", gap), *kept]
