"""Write files that somebody else reads, or has edited."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path

READABLE = 0o644
"""For files that a program of another user reads."""


def write_atomically(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Replace a file atomically: readers see the old or the new content. Raises OSError.

    A symbolic link is followed. The permissions become ``mode`` (None: as they were, or 0644).
    Anything but a regular file (``/dev/stdout``) is refused: it would be replaced. The name of the
    temporary file does not end in ``.prom``: node_exporter would read it too.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if mode is None:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else READABLE
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix="~")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
