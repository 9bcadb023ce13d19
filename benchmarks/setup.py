"""The share of both apps of the start of every process of a site."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor
from .workers import site_environ

NOTE = (
    "django.setup() in a new process: CPU and the number of modules, of a site with the admin and "
    "both apps, against the same site without them. A tick of system cron pays for it each minute, "
    "and so does every command of the site."
)
RUN_ONCE = True
ROUNDS = 11
SHARE = Limit(40)
_PROGRAM = """
import sys, time
began = time.process_time()
import django
django.setup()
print(1e3 * (time.process_time() - began), len(sys.modules))
"""


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure the setup with and without the apps, alternately."""
    start()
    turns = [(start(), start(without=True)) for _ in range(ROUNDS)]
    cpu = [PairedValue(site[0], bare[0]) for site, bare in turns]
    share = median(pair.value - pair.floor for pair in cpu)
    (_, modules), (_, bare_modules) = turns[0]
    return [
        compare_with_floor("django.setup() of a site with both apps: CPU", "ms", cpu),
        Figure("  of which both apps", share, "ms", limit=SHARE),
        Figure("  modules of both apps, and what they import", modules - bare_modules),
    ]


def start(*, without: bool = False) -> tuple[float, float]:
    """Return the milliseconds of CPU that django.setup() takes, and the modules afterwards."""
    environ = site_environ({"CHRONIKER_BENCH_APPS": "none" if without else "only"})
    printed = subprocess.check_output([sys.executable, "-c", _PROGRAM], env=environ)
    milliseconds, modules = map(float, printed.split())
    return milliseconds, modules
