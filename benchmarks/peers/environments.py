"""A virtual environment for each scheduler, in ``var/peers``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from .contestants import Peer

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "var" / "peers"


class NotInstalled(Exception):
    """A package cannot be installed on this machine; the message says why."""


def install(peer: Peer) -> Path:
    """Create the environment if it is missing; return its interpreter. Raises NotInstalled.

    Chroniker is installed each time, because its source may have changed.
    """
    folder = FOLDER / peer.environment
    python, stamp = folder / "bin" / "python", folder / "requirements.json"
    wanted = json.dumps(peer.requirements)
    ours = "." in peer.requirements[0][:1]
    if not ours and stamp.exists() and stamp.read_text() == wanted:
        return python
    if not python.exists():
        base = newest_python() if peer.needs_newest_python else sys.executable
        _run([base, "-m", "venv", str(folder)])
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    pip = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip",
                                                                      "install"]  # fmt: skip
    again = ["--reinstall-package", "chroniker"] if ours and uv else []
    _run([*pip, "--quiet", *again, *peer.requirements])
    stamp.write_text(wanted)
    return python


def newest_python() -> str:
    """Return the newest Python of the machine. Raises NotInstalled."""
    found = subprocess.run(
        [ROOT / "scripts" / "newest-python"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not found:
        raise NotInstalled("there is no newer Python on this machine")
    return found


def version(python: Path, package: str) -> str:
    """Return the installed version of a distribution."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.check_output([python, "-c", code], text=True, cwd="/").strip()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(done.stderr.strip()[-400:])
