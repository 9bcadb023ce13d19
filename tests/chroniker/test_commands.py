"""Which commands a job may run, and how its arguments are split."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import BaseCommand
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from chroniker.commands import (
    check_arguments,
    check_command,
    check_raw_command,
    command_parser,
    split_args,
)
from chroniker.conf import REFUSED_COMMANDS
from chroniker.exceptions import CommandRefused


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("", []),
        (" \t\n ", []),
        ("--verbosity 2", ["--verbosity", "2"]),
        ("""--name "a b" 'c "d"' e\\ f""", ["--name", "a b", 'c "d"', "e f"]),
        ('""', [""]),
        ("$HOME `id` *.py ~ a;b a|b >c #d", ["$HOME", "`id`", "*.py", "~", "a;b", "a|b", ">c",
                                             "#d"]),
        ("Grüße\u00a0dich", ["Grüße\u00a0dich"]),
        ("--since='2026-01-01 00:00'", ["--since=2026-01-01 00:00"]),
    ],
)  # fmt: skip
def test_arguments_are_split_as_a_shell_would_and_nothing_is_expanded(
    text: str, args: list[str]
) -> None:
    assert split_args(text) == args


@given(st.lists(st.text(st.characters(exclude_characters="\0"))))
def test_quoted_arguments_round_trip(args: list[str]) -> None:
    assert split_args(shlex.join(args)) == args


@given(st.text())
def test_any_text_is_split_or_rejected(text: str) -> None:
    try:
        args = split_args(text)
    except CommandRefused as refused:
        assert str(refused).endswith(".")
    else:
        assert not any("\0" in arg for arg in args)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("--name 'open", "Close each quote"),
        ('"', "Close each quote"),
        ("a\\", "cannot be split"),
        ("a\0b", "NUL"),
    ],
)
def test_invalid_arguments_are_rejected_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(CommandRefused, match=reason):
        split_args(text)


@pytest.mark.parametrize("name", ["noop", "check", "clearsessions"])
def test_commands_are_allowed_by_default(name: str) -> None:
    check_command(name)


@pytest.mark.parametrize("name", sorted(REFUSED_COMMANDS))
def test_shell_and_destructive_commands_are_refused(name: str) -> None:
    with pytest.raises(CommandRefused, match="list it in CHRONIKER_ALLOWED_COMMANDS"):
        check_command(name)


@pytest.mark.parametrize("name", ["", "nosuch", "no op", "NOOP", "../noop", "noop\n", "--help"])
def test_command_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(CommandRefused, match="There is no management command"):
        check_command(name)


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
def test_allowed_commands_excludes_all_others(kind: type) -> None:
    with override_settings(CHRONIKER_ALLOWED_COMMANDS=kind(["noop", "flush", "nosuch"])):
        check_command("noop")
        check_command("flush")
        with pytest.raises(CommandRefused, match="Add it to CHRONIKER_ALLOWED_COMMANDS"):
            check_command("check")
        with pytest.raises(CommandRefused, match="There is no management command"):
            check_command("nosuch")


def test_empty_allowed_commands_allows_nothing() -> None:
    with (
        override_settings(CHRONIKER_ALLOWED_COMMANDS=[]),
        pytest.raises(CommandRefused, match="Jobs of this site may not run"),
    ):
        check_command("noop")


def test_raw_commands_are_refused_by_default() -> None:
    with pytest.raises(CommandRefused, match="CHRONIKER_ALLOW_RAW_COMMANDS"):
        check_raw_command("/bin/true")


@override_settings(CHRONIKER_ALLOW_RAW_COMMANDS=True)
@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "Name a program"), (" ", "Name a program"), ("'", "quote"), ("a\0", "NUL"),
     ("''", "Name a program"), ("'' --all", "Name a program")],
)  # fmt: skip
def test_raw_command_must_name_a_program(text: str, reason: str) -> None:
    with pytest.raises(CommandRefused, match=reason):
        check_raw_command(text)


@override_settings(CHRONIKER_ALLOW_RAW_COMMANDS=True)
@pytest.mark.parametrize("text", ["/bin/true", "'/opt/my app/run' --all", "backup -v"])
def test_raw_command_is_allowed_if_configured(text: str) -> None:
    check_raw_command(text)


# --- arguments ---


class _WithFile(BaseCommand):
    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("target", type=argparse.FileType("w"))


class _WithGroups(BaseCommand):
    def add_arguments(self, parser: Any) -> None:
        inner = parser.add_subparsers(required=True)
        inner.add_parser("send").add_argument("--to", type=int)
        inner.add_parser("write").add_argument("file", type=argparse.FileType("w"))


class _Broken(BaseCommand):
    def add_arguments(self, parser: Any) -> None:
        raise RuntimeError("no database here")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"with_file": _WithFile(), "with_groups": _WithGroups(), "broken": _Broken(),
             "gone": "no_such_app", "clearsessions": "django.contrib.sessions"}  # fmt: skip
    monkeypatch.setattr("django.core.management.get_commands", lambda: known)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
@pytest.mark.usefixtures("commands")
def test_checking_arguments_never_opens_their_files(tmp_path: Path) -> None:
    """Validating a form must not empty the file that the job is going to write."""
    for name, before in (("with_file", ""), ("with_groups", "write ")):
        precious = tmp_path / name
        precious.write_text("precious")
        check_arguments(name, f"{before}{precious}")
        assert precious.read_text() == "precious"


@pytest.mark.usefixtures("commands")
def test_arguments_that_the_parser_refuses_are_refused() -> None:
    with pytest.raises(CommandRefused, match="does not accept these arguments: unrecognized"):
        check_arguments("clearsessions", "--nonsense")
    with pytest.raises(CommandRefused, match="Close each quote"):
        check_arguments("clearsessions", "'open")
    check_arguments("clearsessions", "--verbosity 2")
    check_arguments("clearsessions", "--help")


@pytest.mark.usefixtures("commands")
def test_a_command_that_cannot_be_loaded_here_is_not_checked() -> None:
    """Its job may run on another host."""
    for name in ("broken", "gone", "unknown"):
        check_arguments(name, "--whatever")
        with pytest.raises(CommandRefused, match="cannot be loaded here"):
            command_parser(name)
