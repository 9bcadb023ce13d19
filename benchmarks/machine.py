"""On what it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any


def read_machine_facts() -> dict[str, Any]:
    """The machine, the software and the moment."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "django": version("django"),
    }


def describe() -> str:
    """In a line."""
    known = read_machine_facts()
    return (
        f"{known['date']}, commit {known['commit'] or '?'}, {known['cores']} cores, "
        f"Linux {known['kernel']}, Python {known['python']}, Django {known['django']}; {load()}\n"
        "Absolute times are those of a noisy machine; the ratios to floors, which were measured "
        "in turn with\nthe figures, are what means something. Figures are medians."
    )


def load() -> str:
    """How busy the machine is."""
    return f"load {os.getloadavg()[0]:.1f}"
