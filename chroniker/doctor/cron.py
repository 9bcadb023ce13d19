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

from .crontab import (
    EVERY_MINUTE,
    CronLine,
    crontab_line,
    project_directory,
    read_system_crontabs,
    read_user_crontab,
)
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
        directory = line.directory
        if directory is None or directory.resolve() == project:
            ours.append(line)
        elif not directory.is_dir():
            yield _finding(
                line,
                "cron.directory",
                f"ticks a site in {directory}, which does not exist",
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
    wanted = crontab_line()
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
    program = line.program
    path = shutil.which(program, path=line.path)
    if path is None:
        what = "which does not exist or is not executable"
        if not os.path.isabs(program):
            what = f"which is not in cron's PATH ({line.path})"
        yield _finding(
            line, "cron.program", f"starts {program}, {what}", f"Replace the line with: {wanted}"
        )
    elif not line.has_environment and _is_other_environment(path):
        yield _finding(
            line,
            "cron.environment",
            f"starts {program}, which belongs to another Python environment than this one "
            f"({sys.prefix})",
            f"Replace the line with: {wanted}",
            Level.WARNING,
        )
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
    directory = Path(os.path.abspath(program)).parent
    here = Path(os.path.abspath(sys.executable)).parent
    if directory == here:
        return False
    # A link to the program, such as one in /usr/local/bin.
    return Path(program).resolve().parent != here
