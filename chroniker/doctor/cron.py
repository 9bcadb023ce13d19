"""The cron line: whether one exists for this site, and whether it can work."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from django.db import DatabaseError, InterfaceError

from .cron_line import EVERY_MINUTE, crontab_line, project_directory, script_directories
from .crontab import CronLine, read_system_crontabs, read_user_crontab
from .database import read_database_clock
from .findings import Area, Finding, Level
from .registry import Installation, examination
from .ticks import ticked_recently

_EACH_MINUTE = (EVERY_MINUTE, "*/1 * * * *")


@examination(Area.CRON)
def examine_cron(installation: Installation) -> Iterator[Finding]:
    """Check the lines of the crontabs that this user may read."""
    found = list(read_system_crontabs(installation.crontabs))
    unread = ""
    if installation.user_crontab:
        try:
            found += read_user_crontab()
        except (OSError, subprocess.SubprocessError) as error:
            unread = f"`crontab -l` failed: {error}. "
    project = project_directory()
    ours = []
    for line in found:
        directory, manage = line.tick.directory, line.tick.manage
        if directory is None or directory.resolve() == project:
            ours.append(line)
        elif not directory.is_dir() or (manage is not None and not manage.exists()):
            what = f"starts {manage}" if manage else f"ticks a site in {directory}"
            yield _finding(
                line,
                "cron.directory",
                f"{what}, which does not exist",
                f"Delete the line, or replace it with: {crontab_line()}",
            )
    for line in ours:
        yield from _examine_line(line)
    if len(ours) > 1:
        yield Finding(
            Area.CRON,
            "cron.twice",
            Level.WARNING,
            f"{len(ours)} lines tick this site: {', '.join(line.source for line in ours)}.",
            "Keep one of them. The others start processes that find nothing to do.",
        )
    if not ours:
        yield _missing_line(unread)


def _missing_line(unread: str) -> Finding:
    try:
        ticks = ticked_recently(read_database_clock())
    except (DatabaseError, InterfaceError):
        ticks = False
    if ticks:
        return Finding(
            Area.CRON,
            "cron",
            Level.OK,
            f"{unread}This host ticks without a line in a crontab that this user can read.",
        )
    return Finding(
        Area.CRON,
        "cron.missing",
        Level.ERROR,
        f"{unread}No crontab that this user can read ticks this site, and this host has not "
        "ticked in the last five minutes.",
        f"Run `crontab -e` as the user that the site runs as, and add: {crontab_line()} "
        "(in a container: `python manage.py cronserver`)",
    )


def _examine_line(line: CronLine) -> Iterator[Finding]:
    good = True
    for finding in _problems(line):
        good = False
        yield finding
    if good:
        yield Finding(
            Area.CRON, "cron", Level.OK, f"A line in {line.source} ticks this site each minute."
        )


def _problems(line: CronLine) -> Iterator[Finding]:
    if line.unescaped_percent:
        yield _finding(
            line, "cron.percent", "contains %, at which cron ends the command", "Write \\% instead."
        )
    if line.user and not _user_exists(line.user):
        yield _finding(
            line,
            "cron.user",
            f"runs as {line.user}, a user that does not exist; cron ignores it",
            "Name the user that the site runs as.",
        )
    yield from _program_problems(line)
    if line.schedule not in _EACH_MINUTE:
        yield _finding(
            line,
            "cron.schedule",
            f"ticks at `{line.schedule}`, so jobs start late",
            "Begin the line with `* * * * *`; the schedules of the jobs decide what runs.",
            Level.WARNING,
        )
    if line.discards_errors:
        yield _finding(
            line,
            "cron.errors-discarded",
            "discards its error output, so nobody hears of a tick that cannot work",
            "Remove the redirection: the line prints nothing while it works. Or log it with "
            "`-l FILE`.",
            Level.WARNING,
        )


def _program_problems(line: CronLine) -> Iterator[Finding]:
    tick = line.tick
    program = tick.program
    if "$" in program or "`" in program:
        return  # only the shell knows
    if "/" in program:
        full = tick.working_directory / program
        path = shutil.which(full)
        what = f"starts {full}, which does not exist or is not executable"
    else:
        path = shutil.which(program, path=tick.path)
        what = f"starts {program}, which is not in cron's PATH ({tick.path})"
    remedy = f"Replace the line with: {crontab_line()}"
    if path is None:
        yield _finding(line, "cron.program", what, remedy)
    elif not tick.has_environment and _is_other_environment(path):
        yield _finding(
            line,
            "cron.environment",
            f"starts {path}, which belongs to another Python environment than this one "
            f"({sys.prefix})",
            remedy,
            Level.WARNING,
        )


def _finding(
    line: CronLine, name: str, problem: str, remedy: str, level: Level = Level.ERROR
) -> Finding:
    return Finding(Area.CRON, name, level, f"A line in {line.source} {problem}.", remedy)


def _user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _is_other_environment(program: str) -> bool:
    """Whether a program belongs to another environment than this process."""
    here = {os.path.realpath(directory) for directory in script_directories()}
    directory = os.path.dirname(os.path.abspath(program))
    # The program, or a link to it such as one in /usr/local/bin.
    return here.isdisjoint((os.path.realpath(directory), str(Path(program).resolve().parent)))
