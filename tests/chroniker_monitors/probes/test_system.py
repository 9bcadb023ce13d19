"""Disk, memory, swap, load, CPU and processes of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from chroniker_monitors.checking.measurement import measure
from chroniker_monitors.probes import build_probe
from tests.support.machine import REPO, require
from tests.support.measurement import (
    build_errors,
    measure_error,
    measure_value,
    measured_number,
)
from tests.support.processes import wait_until

MEGABYTE = 2**20

# --- disk -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, in memory."""
    require("root", "mount")
    directory = tmp_path / "small"
    directory.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "tmpfs"]
    done = subprocess.run(["mount", *options, directory], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"this root may not mount: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def test_disk_usage_rises_and_falls(small_disk: Path) -> None:
    path = str(small_disk)
    assert measured_number("disk", path=path) == 0
    (small_disk / "half").write_bytes(bytes(MEGABYTE // 2))
    assert measured_number("disk", path=path) == pytest.approx(50, abs=2)
    with pytest.raises(OSError, match="No space"):
        (small_disk / "rest").write_bytes(bytes(MEGABYTE))
    found = measure_value("disk", path=path)
    assert (found.value, found.unit) == (100, "%")
    assert found.message == f"0 B of 1.0 MiB free on {path}"
    assert measured_number("disk", path=path, measure="percent_free") == 0
    assert measured_number("disk", path=path, measure="free_bytes") == 0
    (small_disk / "rest").unlink()
    assert measured_number("disk", path=path, measure="free_bytes") == MEGABYTE // 2


def test_inodes_run_out_on_their_own(small_disk: Path) -> None:
    path = str(small_disk)
    with pytest.raises(OSError, match="No space"):
        for number in range(100):
            (small_disk / str(number)).touch()
    assert measured_number("disk", path=path, measure="inodes_percent_used") == pytest.approx(
        100, abs=2
    )
    assert measured_number("disk", path=path) < 10


def test_disk_usage_agrees_with_shutil(tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    free = measured_number("disk", path=str(tmp_path), measure="free_bytes")
    assert free == pytest.approx(usage.free, rel=0.05, abs=64 * MEGABYTE)


def test_missing_path_is_unknown() -> None:
    said = measure_error("disk", path="/no/such/place")
    assert said == "No such file or directory: /no/such/place."


@pytest.mark.parametrize("path", ["", "relative/path", "~/backups", "C:\\"])
def test_path_must_be_absolute(path: str) -> None:
    assert "absolute path" in build_errors("disk", path=path)["path"]


# --- memory, swap, load, CPU ----------------------------------------------------------------


def test_memory_agrees_with_the_kernel() -> None:
    facts = psutil.virtual_memory()
    found = measure_value("memory", measure="available_bytes")
    assert found.value == pytest.approx(facts.available, rel=0.5)
    assert found.unit == "bytes"
    assert measured_number("memory") == pytest.approx(facts.percent, abs=50)


def test_swap_is_zero_if_there_is_none() -> None:
    found = measure_value("swap")
    assert 0 <= (found.value or 0) <= 100
    assert ("no swap" in found.message) == (psutil.swap_memory().total == 0)
    assert measured_number("swap", measure="used_bytes") >= 0


@pytest.mark.parametrize("minutes", ["1", "5", "15"])
def test_load_is_per_core(minutes: str) -> None:
    assert 0 <= measured_number("load", minutes=minutes) < 1000


def test_busy_process_raises_cpu_usage() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        wait_until(lambda: psutil.Process(busy.pid).cpu_times().user > 0.05)
        assert measured_number("cpu", seconds=0.3) > 10
    finally:
        busy.kill()
        busy.wait()


def test_interval_above_time_limit_is_rejected_at_once() -> None:
    found = measure(build_probe("cpu", {"seconds": 30}), timeout=5)
    assert found.latency_seconds < 5
    assert "Raise the timeout of the monitor" in found.error


# --- processes ------------------------------------------------------------------------------

MEMORY_HOG = (
    "import sys, time; hoard = bytearray(200 * 2**20); print('full', flush=True); time.sleep(300)"
)


def test_memory_of_a_process_is_measured(tmp_path: Path) -> None:
    mark = tmp_path.name
    assert measured_number("process", name=f"eater-{mark}", match="cmdline") == 0
    eater = subprocess.Popen(
        [sys.executable, "-c", MEMORY_HOG, f"eater-{mark}"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert eater.stdout is not None and eater.stdout.readline() == "full\n"
        by_line = {"name": f"eater-{mark}", "match": "cmdline"}
        found = measure_value("process", **by_line)
        assert (found.value, found.unit) == (1, "processes")
        assert str(eater.pid) in found.message
        for measure_ in ("rss_bytes", "max_rss_bytes"):
            found = measure_value("process", **by_line, measure=measure_)
            assert (found.value or 0) > 200 * MEGABYTE
            assert found.unit == "bytes"
        for measure_ in ("oldest_seconds", "newest_seconds"):
            found = measure_value("process", **by_line, measure=measure_)
            assert 0 <= (found.value or 0) < 100
            assert found.unit == "seconds"
        me = psutil.Process().username()
        assert measured_number("process", **by_line, user=me) == 1
        assert measured_number("process", **by_line, user="nobody-here") == 0
        eater.kill()
        wait_until(
            lambda: measured_number("process", **by_line) == 0,
            message="the killed process not to count",
        )
    finally:
        eater.kill()
        eater.communicate()


def test_processes_are_found_by_program_name() -> None:
    sleeper = subprocess.Popen(["sleep", "300"])
    try:
        wait_until(lambda: psutil.Process(sleeper.pid).name() == "sleep")
        assert measured_number("process", name="sleep") >= 1
        assert measured_number("process", name="slee") == 0, "the whole name"
    finally:
        sleeper.kill()
        sleeper.wait()


SELF_COUNTING = """
import django
django.setup()
from chroniker_monitors.checking.measurement import measure
from chroniker_monitors.probes import build_probe
params = {"name": "marked-itself", "match": "cmdline"}
print(measure(build_probe("process", params), timeout=20).value)
"""


def test_probe_does_not_count_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SELF_COUNTING, "marked-itself"],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "0.0\n", done.stderr


def test_age_without_processes_is_unknown() -> None:
    said = measure_error("process", name="no-such-program", measure="oldest_seconds")
    assert "No process matches 'no-such-program'" in said
    assert "measure the number" in said
