"""Age, size or number of files that match a pattern, for example to check a backup."""

from __future__ import annotations

import glob
import itertools
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from chroniker_monitors.exceptions import ProbeError

from .base import BaseProbe, Reading
from .error_messages import explain_os
from .params import param
from .registry import register_probe
from .system import validate_absolute_path
from .time_limit import call_with_timeout

MAX_FILES = 100_000


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class FileProbe(BaseProbe):
    """Files that match a pattern."""

    kind: ClassVar[str] = "file"
    label: ClassVar[str] = "File"
    description: ClassVar[str] = (
        "Age or size of the newest file that matches a pattern, or the number of files."
    )
    unit: ClassVar[str] = "seconds"

    pattern: str = param(
        label="Pattern",
        help="Such as /var/backups/shop-*.sql.gz. ** matches any number of directories.",
    )
    measure: str = param(
        "age_seconds",
        label="Measure",
        choices=(
            ("age_seconds", "Age of the newest, seconds"),
            ("size_bytes", "Size of the newest, bytes"),
            ("count", "Number of files"),
        ),
    )

    def clean(self) -> None:
        """Check that the pattern is absolute."""
        validate_absolute_path(self.pattern, "pattern")

    def run(self) -> Reading:
        """Read the metadata of the files. A file server that hangs counts as no response."""
        return call_with_timeout(self._scan)

    def _scan(self) -> Reading:
        directory = self._directory()
        newest, newest_stat, count = "", None, 0
        found = glob.iglob(self.pattern, recursive=True, include_hidden=False)
        for path in itertools.islice(found, MAX_FILES + 1):
            try:
                info = os.stat(path)
            except FileNotFoundError:
                continue  # deleted meanwhile, or a broken link
            if not stat.S_ISREG(info.st_mode):
                continue
            count += 1
            if newest_stat is None or info.st_mtime > newest_stat.st_mtime:
                newest, newest_stat = path, info
        if count > MAX_FILES:
            raise ProbeError(
                f"More than {MAX_FILES} files match {self.pattern}. Use a narrower pattern."
            )
        if self.measure == "count":
            return Reading(count, self.pattern, "files")
        if newest_stat is None:
            raise ProbeError(f"No file matches {self.pattern} ({directory} exists).")
        if self.measure == "size_bytes":
            return Reading(newest_stat.st_size, f"{newest}, the newest of {count}", "bytes")
        age = max(time.time() - newest_stat.st_mtime, 0.0)  # if the clock was set back
        return Reading(age, f"{newest}, the newest of {count}")

    def _directory(self) -> Path:
        """Return the directory before the first wildcard; ``glob`` ignores permission errors."""
        parts = Path(self.pattern).parts
        plain = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
        path = Path(*plain)
        wild = len(plain) < len(parts)
        directory = path if wild else path.parent
        try:
            os.stat(os.path.join(directory, "."))  # can it be entered?
            if wild:
                with os.scandir(directory):  # can it be listed?
                    pass
        except OSError as error:
            raise ProbeError(explain_os(error, str(directory))) from error
        return directory
