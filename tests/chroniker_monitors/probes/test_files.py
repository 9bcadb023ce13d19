"""Age, size and number of files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from chroniker_monitors.checking.measurement import Measurement, measure
from chroniker_monitors.probes import build_probe
from chroniker_monitors.probes.files import FileProbe
from tests.support.machine import require
from tests.support.measurement import (
    build_errors,
    measure_error,
    measure_value,
    measured_number,
)
from tests.support.types import RunInFork


def write(path: Path, age: float = 0, size: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    when = time.time() - age
    os.utime(path, (when, when))
    return path


def test_newest_file_counts(tmp_path: Path) -> None:
    write(tmp_path / "shop-1.gz", age=90_000, size=10)
    newest = write(tmp_path / "shop-2.gz", age=3600, size=20)
    write(tmp_path / "other.gz", age=5, size=30)
    pattern = str(tmp_path / "shop-*.gz")
    found = measure_value("file", pattern=pattern)
    assert found.value == pytest.approx(3600, abs=60)
    assert (found.unit, found.message) == ("seconds", f"{newest}, the newest of 2")
    found = measure_value("file", pattern=pattern, measure="size_bytes")
    assert (found.value, found.unit) == (20, "bytes")
    assert measured_number("file", pattern=pattern, measure="count") == 2


def test_age_grows_until_the_file_is_renewed(tmp_path: Path) -> None:
    path = write(tmp_path / "backup.sql", age=100_000)
    assert measured_number("file", pattern=str(path)) > 86_400
    write(path)
    assert measured_number("file", pattern=str(path)) < 60


def test_double_star_descends_and_skips_directories(tmp_path: Path) -> None:
    write(tmp_path / "a/b/c.log", age=50)
    (tmp_path / "a/b/d.log").mkdir()
    (tmp_path / "a/gone.log").symlink_to(tmp_path / "nowhere")
    assert measured_number("file", pattern=str(tmp_path / "**/*.log"), measure="count") == 1
    assert measured_number("file", pattern=str(tmp_path / "a/*/c.log")) == pytest.approx(50, abs=30)


def test_file_from_the_future_has_age_zero(tmp_path: Path) -> None:
    assert measured_number("file", pattern=str(write(tmp_path / "a", age=-5000))) == 0


def test_missing_file_is_unknown_and_not_age_zero(tmp_path: Path) -> None:
    for measure_ in ("age_seconds", "size_bytes"):
        said = measure_error("file", pattern=str(tmp_path / "*.gz"), measure=measure_)
        assert said == f"No file matches {tmp_path}/*.gz ({tmp_path} exists)."
    assert measured_number("file", pattern=str(tmp_path / "*.gz"), measure="count") == 0


def test_missing_directory_is_unknown_and_not_zero_files(tmp_path: Path) -> None:
    for pattern in ("gone/*.gz", "gone/backup.gz"):
        said = measure_error("file", pattern=str(tmp_path / pattern), measure="count")
        assert said == f"No such file or directory: {tmp_path}/gone."


def test_unreadable_directory_is_unknown_and_not_zero_files(
    tmp_path: Path, run_in_fork: RunInFork
) -> None:
    require("root")
    secret = write(tmp_path / "secret/backup.gz").parent
    secret.chmod(0o700)
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(parent.stat().st_mode | 0o055)

    def as_nobody(pattern: str) -> Measurement:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        return measure(build_probe("file", {"pattern": pattern, "measure": "count"}), timeout=20)

    for pattern in (secret / "*.gz", secret / "backup.gz"):
        ended = run_in_fork(as_nobody, str(pattern)).wait()
        assert ended.exit_code == 0, ended.output
        assert ended.value.value is None
        assert ended.value.error == (f"Permission denied for the user who runs the jobs: {secret}.")


def test_too_many_files_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chroniker_monitors.probes.files.MAX_FILES", 2)
    for number in range(3):
        write(tmp_path / str(number))
    assert "More than 2 files" in measure_error("file", pattern=str(tmp_path / "*"))


@pytest.mark.parametrize("pattern", ["backup.gz", "./*.gz", "~/x"])
def test_pattern_must_be_absolute(pattern: str) -> None:
    assert "absolute path" in build_errors("file", pattern=pattern)["pattern"]


def test_pattern_is_required() -> None:
    assert FileProbe.kind == "file"
    assert "required" in build_errors("file")["pattern"]
