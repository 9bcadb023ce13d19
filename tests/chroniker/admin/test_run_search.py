"""Searching the output of a run."""

from __future__ import annotations

from chroniker.admin.run_search import MAX_FOUND, search_output
from chroniker.models import OutputChunk


def chunks(*pieces: tuple[str, str]) -> list[OutputChunk]:
    return [
        OutputChunk(pk=n, stream=stream, text=text) for n, (stream, text) in enumerate(pieces, 1)
    ]


def test_lines_are_found_with_number_and_chunk() -> None:
    found = search_output(
        chunks(("stdout", "one\ntwo\n"), ("stderr", "an Error\n"), ("stdout", "three error")),
        "error",
    )
    assert [(line.number, line.stream, line.chunk) for line in found.lines] == [
        (3, "stderr", 2), (4, "stdout", 3),
    ]  # fmt: skip
    assert "an <mark>Error</mark>" in found.lines[0].html
    assert not found.more


def test_a_line_may_be_split_between_chunks_and_interrupted_by_another_stream() -> None:
    found = search_output(
        chunks(("stdout", "first\nnee"), ("stderr", "x\n"), ("stdout", "dle\nlast\n")), "needle"
    )
    assert [(line.number, line.chunk) for line in found.lines] == [(2, 1)]


def test_colours_do_not_hide_text_and_text_stays_text() -> None:
    found = search_output(chunks(("stdout", "\x1b[31mfa\x1b[0mtal <img src=x>\n")), "fatal <IMG")
    assert found.lines[0].html == "<mark>fatal &lt;img</mark> src=x&gt;"


def test_special_characters_are_no_pattern() -> None:
    assert search_output(chunks(("stdout", "aaa\n")), "a.a").lines == []
    assert len(search_output(chunks(("stdout", "(a.a)*\n")), "(a.a)*").lines) == 1


def test_result_is_limited() -> None:
    found = search_output(chunks(("stdout", "x\n" * 500)), "x")
    assert len(found.lines) == MAX_FOUND
    assert found.more


def test_a_line_without_end_is_cut_around_what_is_found() -> None:
    found = search_output(chunks(("stdout", "a" * 5000 + "needle" + "b" * 5000)), "needle")
    assert "…" in found.lines[0].html
    assert len(found.lines[0].html) < 400
