"""The machine of the benchmark."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version


def read_machine_facts() -> dict[str, object]:
    """Return facts about the machine and the software, and the time."""
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
    """Return the facts as text."""
    known = read_machine_facts()
    return (
        f"{known['date']}, commit {known['commit'] or '?'}, {known['cores']} cores, "
        f"Linux {known['kernel']}, Python {known['python']}, Django {known['django']}; {load()}\n"
        "Absolute times depend on the machine and its load. Compare the ratios to the floors, "
        "which were\nmeasured alternately with the figures. Figures are medians."
    )


def load() -> str:
    """Return the load of the machine."""
    return f"load {os.getloadavg()[0]:.1f}"
