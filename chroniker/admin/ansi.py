"""Terminal colours as HTML. Everything is escaped; classes come from a fixed set."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString

_SEQUENCE = re.compile(
    r"\x1b\[(?P<sgr>[0-9;:]*)m"  # colours and styles
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # other control sequences: cursor movements, clearing
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, links and other strings
    r"|\x1b[@-Z\\^_a-z0-9=><()]"
)
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and marks that change the direction of the text after them."""
_STYLES = {1: "bold", 2: "faint", 3: "italic", 4: "underline", 7: "inverse", 9: "strike"}
_ENDS = {22: ("bold", "faint"), 23: ("italic",), 24: ("underline",), 27: ("inverse",),
         29: ("strike",)}  # fmt: skip
_MAX_PARAMETERS = 64
"""The length of a sequence that is applied; longer ones are no colours."""
_BASIC, _BRIGHT, _PALETTE, _TRUE = 8, 8, 5, 2


@dataclass(slots=True)
class AnsiStyle:
    """The style in force. It continues from line to line."""

    foreground: int | None = None
    background: int | None = None
    styles: frozenset[str] = frozenset()

    @property
    def classes(self) -> str:
        """The CSS classes, or nothing."""
        names = [f"chroniker-ansi-{style}" for style in sorted(self.styles)]
        if self.foreground is not None:
            names.append(f"chroniker-ansi-fg-{self.foreground}")
        if self.background is not None:
            names.append(f"chroniker-ansi-bg-{self.background}")
        return " ".join(names)

    @property
    def parameters(self) -> str:
        """The parameters of a sequence that gives this style."""
        codes = sorted(code for code, style in _STYLES.items() if style in self.styles)
        for colour, normal, bright in (
            (self.foreground, 30, 90 - _BRIGHT), (self.background, 40, 100 - _BRIGHT),
        ):  # fmt: skip
            if colour is not None:
                codes.append(colour + (normal if colour < _BRIGHT else bright))
        return ";".join(map(str, codes))

    def apply(self, parameters: str) -> None:
        """Apply the parameters of a sequence such as ``1;31``. Unknown ones are ignored."""
        if len(parameters) > _MAX_PARAMETERS:
            return
        codes = [
            int(code) if code and len(code) < 4 else 0 for code in re.split("[;:]", parameters)
        ]
        while codes:
            code = codes.pop(0)
            if code in (38, 48):
                self._set_extended(code, codes)
            else:
                self._set(code)

    def _set(self, code: int) -> None:
        if code == 0:
            self.foreground = self.background = None
            self.styles = frozenset()
        elif code in _STYLES:
            self.styles |= {_STYLES[code]}
        elif code in _ENDS:
            self.styles -= set(_ENDS[code])
        elif 30 <= code <= 37:
            self.foreground = code - 30
        elif 40 <= code <= 47:
            self.background = code - 40
        elif 90 <= code <= 97:
            self.foreground = code - 90 + _BRIGHT
        elif 100 <= code <= 107:
            self.background = code - 100 + _BRIGHT
        elif code == 39:
            self.foreground = None
        elif code == 49:
            self.background = None

    def _set_extended(self, code: int, rest: list[int]) -> None:
        """A colour of a palette of 256, of which the first 16 are shown, or a free colour."""
        kind = rest.pop(0) if rest else 0
        colour: int | None = None
        if kind == _PALETTE and rest:
            number = rest.pop(0)
            colour = number if number < _BASIC + _BRIGHT else None
        elif kind == _TRUE:
            del rest[:3]
        if code == 38:
            self.foreground = colour
        else:
            self.background = colour


def render_line(line: str, style: AnsiStyle) -> SafeString:
    """A line as HTML; ``style`` is the style at its start, and afterwards at its end.

    Of a line that overwrites itself with carriage returns, the last version is shown.
    """
    if "\r" in line:
        line = next((part for part in reversed(line.split("\r")) if part), "")
    if "\x1b" not in line and not style.classes:
        return escape(_visible(line))
    pieces: list[tuple[str, str]] = []
    position = 0
    for found in _SEQUENCE.finditer(line):
        pieces.append((style.classes, line[position : found.start()]))
        position = found.end()
        if found["sgr"] is not None:
            style.apply(found["sgr"])
    pieces.append((style.classes, line[position:]))
    return format_html_join(
        "",
        "{}",
        (
            (format_html('<span class="{}">{}</span>', names, _visible(text)) if names
             else _visible(text),)
            for names, text in pieces
            if text
        ),
    )  # fmt: skip


def style_after(text: str, parameters: str = "") -> str:
    """The style at the end of a text, whose style at its start is ``parameters``."""
    style = AnsiStyle()
    style.apply(parameters)
    if "\x1b" in text:
        for found in _SEQUENCE.finditer(text):
            if found["sgr"] is not None:
                style.apply(found["sgr"])
    return style.parameters


def plain_text(text: str) -> str:
    """The text without sequences, for a search."""
    return _SEQUENCE.sub("", text)


def _visible(text: str) -> str:
    return _INVISIBLE.sub(lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256
                          else f"\\u{ord(found[0]):04x}", text)  # fmt: skip
