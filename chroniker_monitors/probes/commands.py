"""A management command that reports a value, or whose stderr means "needs attention"."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, ClassVar

from chroniker.commands import check_command, split_args
from chroniker.exceptions import CommandRefused
from chroniker_monitors.exceptions import ParamsInvalid, ProbeError

from .base import BaseProbe, Reading
from .error_messages import explain
from .params import param
from .registry import register_probe
from .reported_readings import collect_readings

_MAX_STDERR_BYTES = 64 * 1024


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class CommandProbe(BaseProbe):
    """A management command of the site."""

    kind: ClassVar[str] = "command"
    label: ClassVar[str] = "Management command"
    description: ClassVar[str] = (
        "A value that a command of the site reports, or whether it writes to stderr."
    )
    unit: ClassVar[str] = ""
    own_process: ClassVar[bool] = True  # a command may do anything
    permission: ClassVar[str] = "chroniker.add_job"  # it allows running any command

    command: str = param(label="Command", help="A management command that jobs may run.")
    args: str = param("", label="Arguments", help="As on a command line; quotes are allowed.")
    mode: str = param(
        "report",
        label="Value",
        choices=(
            ("report", "The value it reports with Monitor.report(value, message)"),
            ("stderr", "1 if it writes to stderr, otherwise 0"),
        ),
    )

    def clean(self) -> None:
        """Check that the site allows jobs to run the command."""
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
            errors["command"] = ["A monitor cannot run check_monitor."]
        if errors:
            raise ParamsInvalid(errors)

    def run(self) -> Reading:
        """Run it in this process."""
        check_command(self.command)
        if self.mode == "stderr":
            return self._measure_stderr()
        with collect_readings() as readings:
            self._call()
        if not readings:
            raise ProbeError(
                f"{self.command} reported nothing. It must call Monitor.report(value, message)."
            )
        return readings[-1]

    def _measure_stderr(self) -> Reading:
        with _capture_stderr() as written:
            self._call()
            stderr_text = written().strip()
        if stderr_text:
            return Reading(1, stderr_text, "needs attention")
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
def _capture_stderr() -> Iterator[Callable[[], str]]:
    """Capture stderr, including that of programs that the command starts.

    Log records do not count as output, as in a job: they still go to the original stderr.
    """
    with tempfile.TemporaryFile() as file, contextlib.ExitStack() as stack:
        outer = sys.stderr
        with contextlib.suppress(AttributeError, OSError, ValueError):
            outer.flush()
        kept = os.dup(2)
        stack.callback(os.close, kept)
        stack.enter_context(_redirect_logging(_writer(kept), outer))
        os.dup2(file.fileno(), 2)
        stack.callback(os.dup2, kept, 2)
        sys.stderr = _writer(2)

        def written() -> str:
            file.seek(0)
            return file.read(_MAX_STDERR_BYTES).decode("utf-8", "backslashreplace")

        try:
            yield written
        finally:
            sys.stderr = outer


def _writer(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.FileIO(fd, "w", closefd=False),
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
    )


@contextlib.contextmanager
def _redirect_logging(stream: IO[str], outer: object) -> Iterator[None]:
    """Redirect log handlers that write to ``outer``, the console, to another stream."""
    loggers: list[object] = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    redirected = {
        handler: handler.stream
        for logger in loggers
        for handler in getattr(logger, "handlers", ())
        if isinstance(handler, logging.StreamHandler) and handler.stream in (outer, sys.__stderr__)
    }
    last_resort = logging.lastResort
    resort = logging.StreamHandler(stream)
    resort.setLevel(logging.WARNING)
    try:
        for handler in redirected:
            handler.setStream(stream)
        vars(logging)["lastResort"] = resort
        yield
    finally:
        vars(logging)["lastResort"] = last_resort
        for handler, before in redirected.items():
            handler.setStream(before)
