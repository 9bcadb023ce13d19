"""``chroniker``: the program for a line in a crontab.

It starts Django as the project's own ``manage.py`` does, then runs the command ``cron``.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO, cast

from . import prometheus_files
from .startup import SETTINGS_VARIABLE, start_django

_REEXEC_VARIABLE = "_CHRONIKER_VIRTUALENV"


def main(argv: list[str] | None = None) -> None:
    """Run one tick. Exits with 0, or prints one line that says what is wrong and exits with 1."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    code = 0
    with contextlib.ExitStack() as stack:
        try:
            if options.virtualenv and not os.environ.pop(_REEXEC_VARIABLE, ""):
                _reexec_in(Path(options.virtualenv), arguments)
            stack.enter_context(_redirect_output(options.log, quiet=options.quiet))
            _tick(options)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)  # noqa: T201
        except Exception as error:
            code = 1
            reason = " ".join(str(error).split())
            print(f"chroniker: {type(error).__name__}: {reason}", file=sys.stderr)  # noqa: T201
    gc.freeze()  # otherwise the interpreter collects every object once more at exit
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chroniker",
        description="Run the jobs of a Django site that are due. For a line in a crontab: "
        "* * * * * chroniker -p /srv/site",
    )
    parser.add_argument(
        "-s", "--settings", help="settings module; default: from the environment, or from manage.py"
    )
    parser.add_argument(
        "-p", "--project", default=".", metavar="DIR", help="directory of manage.py"
    )
    parser.add_argument("-e", "--virtualenv", metavar="DIR", help="virtual environment to run in")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print nothing; the exit code is the only result"
    )
    parser.add_argument(
        "-l", "--log", metavar="FILE", help="append all output to FILE, each line with its time"
    )
    parser.add_argument("--jobs", default="", metavar="1,2", help="only these jobs: ids or names")
    return parser


def _reexec_in(directory: Path, arguments: list[str]) -> None:
    """Execute this program with the Python of a virtual environment; does not return."""
    python = directory / "bin" / "python"
    if not python.exists():
        sys.exit(f"chroniker: there is no virtual environment in {directory}: no bin/python")
    os.environ[_REEXEC_VARIABLE] = "1"
    os.execv(python, [str(python), "-m", "chroniker.cli", *arguments])


def _tick(options: argparse.Namespace) -> None:
    project = Path(options.project).resolve()
    if not project.is_dir():
        sys.exit(f"chroniker: there is no directory {project}; pass that of manage.py with -p")
    os.chdir(project)
    sys.path.insert(0, str(project))
    manage = str(project / "manage.py")
    if not os.path.isfile(manage):
        if not (options.settings or os.environ.get(SETTINGS_VARIABLE)):
            sys.exit(
                f"chroniker: there is no manage.py in {project}; pass its directory with -p, or a "
                "settings module with -s"
            )
        manage = ""
    prometheus_files.leave()
    gc.disable()  # nothing that is imported becomes garbage
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import call_command
    from django.core.management.base import CommandError

    try:
        start_django(manage, "cron", settings=options.settings or "")
    except ImproperlyConfigured:
        if settings.configured or os.environ.get(SETTINGS_VARIABLE):
            raise
        sys.exit(f"chroniker: {manage} does not name a settings module; pass one with -s")
    gc.enable()
    from chroniker.conf import conf
    from chroniker.db.connections import close_pools

    if conf.LOG_JSON and isinstance(sys.stderr, _TimestampedWriter):
        sys.stderr.timestamps = False  # each line has its own

    try:
        call_command("cron", jobs=options.jobs)
    except CommandError as error:
        sys.stderr.write(f"chroniker: {error}\n")
        sys.exit(error.returncode)
    finally:
        close_pools()


class _TimestampedWriter(io.TextIOBase):
    """Writes lines to a file, each with the time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rest = ""
        self.timestamps = True

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        if lines:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            with open(self.path, "a") as file:
                file.writelines(
                    f"{now} {line}\n" if self.timestamps else f"{line}\n" for line in lines
                )
        return len(text)


@contextlib.contextmanager
def _redirect_output(path: str | None, *, quiet: bool) -> Iterator[None]:
    """Redirect output to a log file, or discard it if `quiet`; otherwise leave it."""
    with contextlib.ExitStack() as stack:
        if path is not None or quiet:
            if path:
                open(path, "a").close()  # now, while an error can still be printed
            writer = _TimestampedWriter(os.path.abspath(path)) if path else io.StringIO()
            stream = cast("TextIO", writer)
            stack.enter_context(contextlib.redirect_stdout(stream))
            stack.enter_context(contextlib.redirect_stderr(stream))
        yield


if __name__ == "__main__":
    main()
