"""Arguments for call_command() become a command line."""

from __future__ import annotations

import pytest

from chroniker.imports.call_arguments import as_command_line


@pytest.mark.parametrize(
    ("text", "args", "notes"),
    [
        ("", "", 0),
        ("say hello", "say hello", 0),
        ("say verbosity=2", "say --verbosity=2", 0),
        ("say no_color=True", "say --no-color", 0),
        ("say no_color=False", "say --no-color", 1),
        ("say settings=a=b", "say --settings=a=b", 0),
        ("--traceback say", "--traceback say", 0),
        ("say --verbosity=2", "say --verbosity=2", 0),
        ("say name='some value'", "say '--name='\"'\"'some' 'value'\"'\"''", 1),
        ("say foo_bar=1", "say --foo-bar=1", 1),
        ("action=x", "x", 0),
    ],
)
def test_words_keep_their_meaning(text: str, args: str, notes: int) -> None:
    found, said = as_command_line("act", text)
    assert (found, len(said)) == (args, notes)


def test_unknown_command_keeps_its_options() -> None:
    found, notes = as_command_line("no_such_command", "a b_c=1")
    assert found == "a --b-c=1"
    assert notes
