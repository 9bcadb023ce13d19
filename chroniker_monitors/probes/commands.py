"""A management command that reports a value, or whose stderr means that somebody has to look."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from chroniker.commands import check_command, split_args
from chroniker.exceptions import CommandRefused
from chroniker_monitors.exceptions import ParamsInvalid, ProbeError
from chroniker_monitors.reports import collecting

from .base import BaseProbe, Reading, param
from .explain import explain
from .registry import register_probe

_KEPT = 64 * 1024  # bytes of stderr


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class Command(BaseProbe):
    """A management command of the site."""

    kind: ClassVar[str] = "command"
    label: ClassVar[str] = "Management command"
    description: ClassVar[str] = "What a command of the site reports, or whether it complains."
    unit: ClassVar[str] = "number"

    command: str = param(label="Command", help="A management command that jobs may run.")
    args: str = param("", label="Arguments", help="As on a command line; quotes work.")
    mode: str = param(
        "report",
        label="Value",
        choices=(
            ("report", "What it reports by Monitor.report(value, message)"),
            ("stderr", "1 if it writes to stderr, otherwise 0"),
        ),
    )

    def clean(self) -> None:
        """The site lets jobs run the command."""
        errors: dict[str, list[str]] = {}
        for name, check in (
            ("command", lambda: check_command(self.command)),
            ("args", lambda: split_args(self.args)),
        ):
            try:
                check()
            except CommandRefused as error:
                errors[name] = [str(error)]
        if self.command == "check_monitor":
            errors["command"] = ["A monitor cannot measure monitors."]
        if errors:
            raise ParamsInvalid(errors)

    def run(self) -> Reading:
        """Run it in this process."""
        check_command(self.command)
        if self.mode == "stderr":
            return self._by_stderr()
        with collecting() as reports:
            self._call()
        if not reports:
            raise ProbeError(
                f"{self.command} reported nothing; it has to call Monitor.report(value, message)."
            )
        return Reading(reports[-1].value, reports[-1].message)

    def _by_stderr(self) -> Reading:
        with _stderr_of_process() as written:
            self._call()
            said = written().strip()
        if said:
            return Reading(1, said, "needs attention")
        return Reading(0, f"{self.command} wrote nothing to stderr", "needs attention")

    def _call(self) -> None:
        from django.core.management import call_command

        try:
            call_command(self.command, *split_args(self.args))
        except SystemExit as ended:
            if ended.code not in (None, 0):
                raise ProbeError(f"{self.command} ended with exit code {ended.code}.") from ended
        except Exception as error:
            raise ProbeError(f"{self.command} failed: {explain(error)}") from error


@contextlib.contextmanager
def _stderr_of_process() -> Iterator[Callable[[], str]]:
    """Collect what is written to stderr, also by programs that the command starts."""
    with tempfile.TemporaryFile() as file:
        outer = sys.stderr
        with contextlib.suppress(AttributeError, OSError, ValueError):
            outer.flush()
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False),
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )

        def written() -> str:
            file.seek(0)
            return file.read(_KEPT).decode("utf-8", "backslashreplace")

        try:
            yield written
        finally:
            sys.stderr.flush()
            sys.stderr = outer
            os.dup2(kept, 2)
            os.close(kept)
