"""A site's own test run, with both apps installed and without them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .databases import BenchmarkDatabase
from .figures import Figure, Limit, spread

NOTE = (
    "`manage.py test` of a new project with one test, on SQLite in memory: what it takes longer "
    "with both apps in INSTALLED_APPS. Both projects run in turn, and the fastest runs are "
    "compared. The part before the command is django.setup(), measured in the same way."
)
RUN_ONCE = True
ROUNDS = 9
WALL = Limit(300)
APPS = '\nINSTALLED_APPS += ["chroniker", "chroniker_monitors"]\n'
TESTS = """\
from django.test import TestCase


class OneTest(TestCase):
    def test_nothing(self):
        pass
"""
SETUP_ONLY = ("-c", "import django; django.setup()")
RUN_TESTS = ("manage.py", "test", "--verbosity=0")
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took, milliseconds."""

    wall: float
    cpu: float


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure the difference that the apps make, in wall time and in CPU."""
    found = []
    with tempfile.TemporaryDirectory(prefix="chroniker-bench-") as folder:
        plain, full = create_site(Path(folder, "plain")), create_site(Path(folder, "full"), APPS)
        for what, command, limit in (
            ("with both apps, more", RUN_TESTS, WALL),
            ("  of that django.setup()", SETUP_ONLY, None),
        ):
            pairs = [(run(plain, command), run(full, command)) for _ in range(ROUNDS + 1)][1:]
            wall = [(theirs.wall, ours.wall) for theirs, ours in pairs]
            cpu = [(theirs.cpu, ours.cpu) for theirs, ours in pairs]
            found.append(difference(f"{what}: wall", wall, limit))
            found.append(difference(f"{what}: CPU", cpu))
    return found


def difference(
    what: str, pairs: Sequence[tuple[float, float]], limit: Limit | None = None
) -> Figure:
    """Return the difference of the fastest runs: other load of the machine only adds time."""
    theirs, ours = (min(times) for times in zip(*pairs, strict=True))
    differences = [mine - other for other, mine in pairs]
    return Figure(what, ours - theirs, "ms", limit=limit, spread=spread(differences))


def create_site(directory: Path, settings: str = "") -> Path:
    """Create a project with one test, and append to its settings."""
    directory.mkdir()
    command = [sys.executable, "-m", "django", "startproject", "mysite", str(directory)]
    subprocess.run(command, check=True, env=environment(directory))
    with (directory / "mysite" / "settings.py").open("a") as file:
        file.write(settings)
    (directory / "test_one.py").write_text(TESTS)
    return directory


def run(site: Path, command: tuple[str, ...]) -> Cost:
    """Run Python in a project. Raises RuntimeError if it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=site,
        env=environment(site) | {"DJANGO_SETTINGS_MODULE": "mysite.settings"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} in {site} ended with exit code {process.returncode}")
    return Cost(1e3 * wall, 1e3 * (usage.ru_utime + usage.ru_stime))


def environment(site: Path) -> dict[str, str]:
    """Return the environment of a site: compiled files are kept, as everywhere but here."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return found | {"PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))}
