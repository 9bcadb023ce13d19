"""Text of jobs that is safe in headers, terminals, pages and databases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroniker.alerting.text import escape_controls, one_line, storable

texts = st.text(st.characters(codec=None))  # surrogates as well
CONTROLS = [*map(chr, range(0x20)), "\x7f", *map(chr, range(0x80, 0xA0))]
LINE_ENDS_AND_BIDI = [*"\u2028\u2029\u202a\u202e\u2066\u2069"]
NEIGHBOURS = [*" ~\xa0\u2027\u202f\u2065\u206a"]
"""The printable characters next to those that are escaped."""


def test_control_characters_are_removed() -> None:
    assert one_line(" a\n b\t\x1b[0m ") == "a b \\x1b[0m"
    assert one_line("x" * 300) == "x" * 199 + "…"
    assert escape_controls("a\r\nb\rc\t\x07") == "a\nb\\x0dc\t\\x07"
    assert escape_controls("\ud800") == "\\ud800"


@pytest.mark.parametrize("character", CONTROLS + LINE_ENDS_AND_BIDI)
def test_control_character_is_escaped_by_its_code(character: str) -> None:
    code = ord(character)
    escape = f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    kept = character in "\n\t"
    assert escape_controls(f"a{character}b") == (f"a{character}b" if kept else f"a{escape}b")
    assert one_line(f"a{character}b") == ("a b" if character.isspace() else f"a{escape}b")


@pytest.mark.parametrize("character", NEIGHBOURS)
def test_printable_character_is_kept(character: str) -> None:
    assert escape_controls(f"a{character}b") == f"a{character}b"


@given(texts)
def test_escaped_text_is_stable_and_can_be_encoded(text: str) -> None:
    escaped = escape_controls(text)
    escaped.encode()
    assert escape_controls(escaped) == escaped
    assert not any(character in escaped for character in "\r\x1b\0\u2028\u202e")


@given(texts, st.integers(1, 50))
def test_one_line_is_one_line_of_at_most_the_length(text: str, length: int) -> None:
    line = one_line(text, length)
    assert len(line) <= length
    assert len(line.splitlines()) <= 1
    line.encode()


def test_only_a_line_that_is_too_long_is_shortened() -> None:
    assert one_line("x" * 200) == "x" * 200
    assert one_line("abcd", 4) == "abcd"
    assert one_line("abcde", 4) == "abc…"


def test_stored_text_has_no_nul_no_surrogate_and_500_characters() -> None:
    assert storable("a\0b \x1b \udcff\n") == "ab \x1b \\udcff\n"
    assert storable("x" * 500) == "x" * 500
    assert storable("x" * 501) == "x" * 500
