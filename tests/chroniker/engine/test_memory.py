"""The memory of a cronserver, from some hundred ticks extrapolated to a month."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories import make_job
from tests.support.machine import REPO
from tests.support.memory import Usage

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.one_database,
    pytest.mark.slow,
]

MONTH = 30 * 24 * 60
"""Ticks of a month, one a minute."""
TICKS = int(os.environ.get("CHRONIKER_MEMORY_TICKS", "700"))


@pytest.mark.timeout(60 + TICKS)
@pytest.mark.parametrize("debug", [True] if TICKS < 2000 else [True, False])
def test_memory_of_a_month_is_flat(debug: bool, site_env: dict[str, str], tmp_path: Path) -> None:
    """DEBUG is the harder case: Django then keeps a log of queries.

    CHRONIKER_MEMORY_TICKS=10000 makes it exact; docs/explanation/performance.md has the result.
    """
    (tmp_path / "month_settings.py").write_text(
        f"from tests.settings import *\nDEBUG = {debug}\n"
        f"CHRONIKER_RUNTIME_DIR = {str(tmp_path / 'runtime')!r}\n"
    )
    for number in range(2):
        make_job(name=f"job {number}", command="act", args="say hello", schedule="@every 1s")
    make_job(name="broken", command="act", args="fail boom", schedule="@every 1s")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.memory", str(TICKS)],
        env=site_env
        | {"DJANGO_SETTINGS_MODULE": "month_settings", "PYTHONPATH": f"{tmp_path}:{REPO}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *samples, took = json.loads(done.stdout.splitlines()[-1])
    usages = [Usage(**sample) for sample in samples]
    # What is in progress at the moment of a sample varies, so the smallest of several counts.
    before, after = usages[: len(usages) // 2], usages[len(usages) // 2 :]
    ticks, runs = after[0].ticks - before[0].ticks, after[0].runs - before[0].runs
    pages = min(u.resident_bytes for u in after) - min(u.resident_bytes for u in before)
    objects = min(u.blocks for u in after) - min(u.blocks for u in before)
    said = (
        f"DEBUG={debug}: in {ticks} ticks and {runs} runs {pages:+} bytes and {objects:+} objects, "
        f"in a month {pages * MONTH / ticks / 2**20:+.1f} MiB; {usages[0]} to {usages[-1]}; {took}"
    )
    print(said)
    assert runs > 0
    assert objects < ticks / 2, said  # an object that each tick leaves behind is twice as many
    assert pages * MONTH / ticks < 64 * 2**20, said
