"""Keep the processes of a scheduler out of ``PROMETHEUS_MULTIPROC_DIR``.

In prometheus_client's multiprocess mode every process that has metrics leaves files there, which
nobody removes. For a few web workers that is fine; a scheduler starts a process for each run. So
the metrics of its processes stay in memory.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

_VARIABLES = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


class _Nowhere:
    """Takes the place of a file of metrics."""

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Close nothing."""


_NOWHERE = _Nowhere()


def remove_own_files() -> None:
    """Delete the files of this process, and let the processes that it forks write none.

    Files that are open stay usable; they only have no name any more.
    """
    directories = {os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    if not directories:
        return
    _keep_in_memory()
    for directory in directories:
        with contextlib.suppress(OSError):
            for path in list(Path(directory).glob(f"*_{os.getpid()}.db")):
                path.unlink(missing_ok=True)


def leave() -> None:
    """Let neither this process nor what it forks or executes from now on write any file."""
    if any(os.environ.get(name) for name in _VARIABLES):
        _keep_in_memory()
    drop_variables(os.environ)


def drop_variables(environ: Any) -> None:
    """Remove the variables that turn the mode on from an environment."""
    for name in _VARIABLES:
        environ.pop(name, None)


def _keep_in_memory() -> None:
    """Make values of metrics that are created, or inherited by a fork, live in memory.

    prometheus_client has no interface for it: it chooses the class of its values once, when it is
    imported. So the method that opens the file is replaced.
    """
    value_class = getattr(sys.modules.get("prometheus_client.values"), "ValueClass", None)
    if getattr(value_class, "_multiprocess", False):
        value_class._MmapedValue__reset = _reset  # type: ignore[union-attr]


def _reset(value: Any) -> None:  # Any: a private class of prometheus_client
    value._file, value._key = _NOWHERE, ""
    value._value = value._timestamp = 0.0
