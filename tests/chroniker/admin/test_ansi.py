"""Terminal colours as HTML: nothing but spans of known classes comes out, whatever goes in."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chroniker.admin.ansi import AnsiStyle, plain_text, render_line

SPAN = re.compile(r'</?span(?: class="(?:chroniker-ansi-[a-z0-9-]+ ?)+")?>')


def render(line: str) -> str:
    return str(render_line(line, AnsiStyle()))


@pytest.mark.parametrize(
    ("line", "html"),
    [
        ("plain", "plain"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("\x1b[31mred\x1b[0m on", '<span class="chroniker-ansi-fg-1">red</span> on'),
        ("\x1b[1;38;5;9mx", '<span class="chroniker-ansi-bold chroniker-ansi-fg-9">x</span>'),
        ("\x1b[38;2;1;2;3mx", "x"),
        ("\x1b[97;41mx", '<span class="chroniker-ansi-fg-15 chroniker-ansi-bg-1">x</span>'),
        ("\x1b[2K\x1b[1Gdone", "done"),
        ("\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x1b\\text", "text"),
        ("10 %\r50 %\r100 %", "100 %"),
        ("kept\r", "kept"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("bell\x07", r"bell\x07"),
        ("\x1b[31m<img src=x>", '<span class="chroniker-ansi-fg-1">&lt;img src=x&gt;</span>'),
    ],
)
def test_lines(line: str, html: str) -> None:
    assert render(line) == html


def test_style_continues_on_the_next_line() -> None:
    style = AnsiStyle()
    render_line("\x1b[32mgreen", style)
    assert str(render_line("still", style)) == '<span class="chroniker-ansi-fg-2">still</span>'
    assert str(render_line("\x1b[mplain", style)) == "plain"


@example("\x1b[31;1m<script>\x1b[999999999999m</script>\x1b")
@given(st.text(st.sampled_from("\x1b[]m0123456789;:<>&\"'ab\r\x07\\?KPX"), max_size=60))
def test_only_spans_of_known_classes_come_out(line: str) -> None:
    html = render(line)
    assert "<" not in SPAN.sub("", html)
    assert "\x1b" not in html
    assert html.count("<span") == html.count("</span>")


def test_plain_text_has_no_sequences() -> None:
    assert plain_text("\x1b[1mfatal\x1b[0m error") == "fatal error"
