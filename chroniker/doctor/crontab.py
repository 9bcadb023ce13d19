"""Lines of crontabs that tick a site of Chroniker."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .tick_command import Tick, find_tick

_TIMEOUT_SECONDS = 10
_VARIABLE = re.compile(r"\s*(\w+)\s*=\s*(.*?)\s*")
_ALIAS = re.compile(r"@\w+")
_PATH = "/usr/bin:/bin"
"""What cron sets."""


@dataclass(frozen=True, slots=True)
class CronLine:
    """A line of a crontab that ticks a site of Chroniker."""

    source: str
    """The file, or ``crontab`` for that of the user."""
    schedule: str
    user: str
    """Empty in the crontab of the user."""
    command: str
    tick: Tick
    unescaped_percent: bool = False

    @property
    def discards_errors(self) -> bool:
        """Whether nobody would see what cron could mail."""
        return bool(re.search(r"2>\s*/dev/null|&>\s*/dev/null|/dev/null\s+2>&1", self.command))


def read_user_crontab() -> Iterator[CronLine]:
    """Read the crontab of the user who runs this process. Raises OSError if cron is missing."""
    done = subprocess.run(
        ["crontab", "-l"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_TIMEOUT_SECONDS,
        env=os.environ | {"LC_ALL": "C"},
    )
    if done.returncode == 0:  # otherwise the user has none, or may not have one
        yield from parse_crontab(done.stdout, source="crontab", has_user=False)


def read_system_crontabs(places: tuple[Path, ...]) -> Iterator[CronLine]:
    """Read files, and the files of directories. What cannot be read is left out."""
    for place in places:
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        for file in files:
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            yield from parse_crontab(text, source=str(file), has_user=True)


def parse_crontab(text: str, *, source: str, has_user: bool) -> Iterator[CronLine]:
    """Find the lines that tick a site of Chroniker."""
    variables = {"PATH": _PATH}
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if variable := _VARIABLE.fullmatch(line):
            variables[variable[1]] = variable[2].strip("\"'")
            continue
        fields = 1 if _ALIAS.match(stripped) else 5
        parts = stripped.split(maxsplit=fields + has_user)
        if len(parts) <= fields + has_user:
            continue
        user = parts[fields] if has_user else ""
        shell, *rest = re.split(r"(?<!\\)%", parts[-1], maxsplit=1)
        command = shell.replace("\\%", "%")
        tick = find_tick(command, variables=variables, home=_home(user))
        if tick is None:
            continue
        yield CronLine(
            source=source,
            schedule=" ".join(parts[:fields]),
            user=user,
            command=command,
            tick=tick,
            unescaped_percent=bool(rest),
        )


def _home(user: str) -> Path:
    try:
        return Path(pwd.getpwnam(user).pw_dir) if user else Path.home()
    except KeyError:  # cron ignores the line of an unknown user
        return Path("/")
