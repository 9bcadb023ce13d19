"""Lines of crontabs: the one that this installation needs, and those that exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chroniker.startup import SETTINGS_VARIABLE, find_manage_py

_TIMEOUT_SECONDS = 10
_VARIABLE = re.compile(r"\s*(\w+)\s*=\s*(.*)")
_ALIAS = re.compile(r"@\w+")
EVERY_MINUTE = "* * * * *"


def crontab_line() -> str:
    """Return the line that ticks this site each minute, with absolute paths."""
    words = [*_program(), "-p", str(project_directory())]
    if settings := _settings_option():
        words += ["-s", settings]
    return f"{EVERY_MINUTE} {shlex.join(words)}".replace("%", "\\%")


def project_directory() -> Path:
    """Return the directory of ``manage.py``, or the current one if there is none."""
    manage = find_manage_py()
    return Path(manage).resolve().parent if manage else Path.cwd()


def _program() -> list[str]:
    # Not resolved: the interpreter of a virtual environment is a link out of it.
    directory = os.path.dirname(os.path.abspath(sys.executable))
    script = shutil.which("chroniker", path=directory)
    return [script] if script else [os.path.abspath(sys.executable), "-m", "chroniker.cli"]


def _settings_option() -> str:
    """Return the settings module, unless ``manage.py`` names it."""
    module = os.environ.get(SETTINGS_VARIABLE, "")
    manage = find_manage_py()
    if not manage:
        return module
    try:
        text = Path(manage).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return module
    return "" if re.search(rf"""["']{re.escape(module)}["']""", text) else module


@dataclass(frozen=True, slots=True)
class CronLine:
    """A line of a crontab that ticks a site of Chroniker."""

    source: str
    """The file, or ``crontab`` for that of the user."""
    schedule: str
    user: str
    """Empty in the crontab of the user."""
    command: str
    path: str
    """The PATH that the crontab sets, or cron's own."""
    unescaped_percent: bool = False

    @property
    def words(self) -> list[str]:
        """The command as a shell splits it; without quotes that are closed, by blanks."""
        try:
            return shlex.split(self.command)
        except ValueError:
            return self.command.split()

    @property
    def program(self) -> str:
        """The word that starts the tick: the program, or the interpreter of ``manage.py``."""
        words = self.words
        for at, word in enumerate(words):
            if os.path.basename(word) == "chroniker":
                return word
            if word == "chroniker.cli" and at >= 2:
                return words[at - 2]
            if os.path.basename(word) == "manage.py":
                previous = words[at - 1] if at else ""
                return previous if "python" in os.path.basename(previous) else word
        return ""

    @property
    def directory(self) -> Path | None:
        """The directory of the site, or None if the line does not name one."""
        words = self.words
        start = Path()
        for at, word in enumerate(words):
            following = words[at + 1] if at + 1 < len(words) else ""
            if word == "cd" and following:
                start = Path(following.rstrip(";"))
            elif word in ("-p", "--project") and following:
                return start / following
            elif word.startswith("--project="):
                return start / word.partition("=")[2]
            elif os.path.basename(word) == "manage.py":
                return (start / word).parent
        return start if start.parts else None

    @property
    def has_environment(self) -> bool:
        """Whether the line names a virtual environment itself."""
        return any(word in ("-e", "--virtualenv") for word in self.words)

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
    path = "/usr/bin:/bin"
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if variable := _VARIABLE.fullmatch(line):
            if variable[1] == "PATH":
                path = variable[2].strip("\"'")
            continue
        fields = 1 if _ALIAS.match(stripped) else 5
        parts = stripped.split(maxsplit=fields + has_user)
        if len(parts) <= fields + has_user:
            continue
        command = parts[-1]
        shell, *rest = re.split(r"(?<!\\)%", command, maxsplit=1)
        if not _is_tick(command):
            continue
        yield CronLine(
            source=source,
            schedule=" ".join(parts[:fields]),
            user=parts[fields] if has_user else "",
            command=(shell if rest else command).replace("\\%", "%"),
            path=path,
            unescaped_percent=bool(rest),
        )


def _is_tick(command: str) -> bool:
    return bool(
        re.search(r"(?:^|[\s/'\"])chroniker(?:['\"\s]|$)", command)
        or re.search(r"-m\s+chroniker\.cli\b", command)
        or re.search(r"manage\.py['\"]?\s+(?:\S+\s+)*?cron(?:\s|$)", command)
    )
