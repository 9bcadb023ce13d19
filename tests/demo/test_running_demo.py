"""The whole demo, started and checked as ``make smoke`` does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.machine import REPO


@pytest.mark.slow
@pytest.mark.no_leftovers
@pytest.mark.timeout(180)
def test_smoke() -> None:
    """The demo is built, runs every job and passes its tests.

    In less than two minutes: `make demo` promises results within three.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}
    ended = subprocess.run(
        [sys.executable, "-m", "demo", "smoke"],
        cwd=REPO,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=170,
    )
    assert ended.returncode == 0, ended.stdout
