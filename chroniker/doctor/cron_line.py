"""The line of a crontab that ticks this site."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from chroniker.startup import SETTINGS_VARIABLE, find_manage_py

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


def script_directories() -> list[str]:
    """Return the directories of this Python environment's programs.

    They are not those of ``sys.executable``, which is the server in an embedded interpreter.
    """
    found = [os.path.join(sys.prefix, "bin"), sysconfig.get_path("scripts")]
    return list(dict.fromkeys(found))


def _program() -> list[str]:
    path = os.pathsep.join(script_directories())
    if script := shutil.which("chroniker", path=path):
        return [script]
    # Not resolved: the interpreter of a virtual environment is a link out of it.
    python = shutil.which("python", path=path) or shutil.which("python3", path=path)
    return [python or os.path.abspath(sys.executable), "-m", "chroniker.cli"]


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
