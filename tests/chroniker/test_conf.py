"""Settings are read on each use; the runtime directory is private."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from chroniker.conf import all_settings, conf, default_runtime_dir, runtime_dir
from chroniker.identity import site_identity
from tests.support.machine import require

# --- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("LEASE_SECONDS", 7), ("ALLOWED_COMMANDS", ["noop"]), ("HOSTNAME", "shop-1"),
     ("MAX_PARALLEL", 1), ("SECRET_NAMES", {"x"}), ("METRICS_DURATION_BUCKETS", (1, 2))],
)  # fmt: skip
def test_setting_changes_take_effect_at_once(name: str, value: Any) -> None:
    before = getattr(conf, name)

    with override_settings(**{f"CHRONIKER_{name}": value}):
        assert getattr(conf, name) == value
        with override_settings(**{f"CHRONIKER_{name}": None}):
            assert getattr(conf, name) == before, "None asks for the default"
    assert getattr(conf, name) == before


@pytest.mark.parametrize("value", [False, 0, "", [], ()])
def test_false_value_overrides_the_default(value: Any) -> None:
    for name in ("ALLOWED_COMMANDS", "USE_PID", "KILL_GRACE_SECONDS", "LOG_FORMAT"):
        with override_settings(**{f"CHRONIKER_{name}": value}):
            assert getattr(conf, name) == value


def test_computed_defaults_are_computed_on_each_access() -> None:
    hostname = conf.HOSTNAME
    assert hostname == socket.gethostname()
    conf.SECRET_NAMES.append("MINE")
    assert conf.SECRET_NAMES == []


def test_every_setting_has_its_name_a_meaning_and_a_default_of_its_type() -> None:
    settings = all_settings()

    assert {setting.name for setting in settings} == {
        f"CHRONIKER_{name}" for name in vars(type(conf)) if name.isupper()
    }
    for setting in settings:
        assert setting.doc.endswith(".")
        assert not callable(setting.default) or setting.shown
        default: Any = setting.default() if callable(setting.default) else setting.default
        assert None in (setting.minimum, default) or default >= setting.minimum
        assert default is None or isinstance(default, setting.types)


# --- the directory of the locks -------------------------------------------------------------


@pytest.fixture
def runtime_directory(tmp_path: Path, settings: Any) -> Path:
    path = tmp_path / "made" / "when missing"
    settings.CHRONIKER_RUNTIME_DIR = str(path)
    return path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_runtime_directory_is_private_to_its_owner(runtime_directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert runtime_dir() == str(runtime_directory)
    finally:
        os.umask(before)
    assert mode(runtime_directory) == 0o700
    assert runtime_dir() == str(runtime_directory)


def test_directory_of_another_user_is_rejected(runtime_directory: Path) -> None:
    require("root")
    runtime_directory.mkdir(parents=True)
    os.chown(runtime_directory, 65534, 65534)

    with pytest.raises(PermissionError, match="set CHRONIKER_RUNTIME_DIR"):
        runtime_dir()


def test_file_in_its_place_is_an_error(runtime_directory: Path) -> None:
    runtime_directory.parent.mkdir()
    runtime_directory.touch()

    with pytest.raises(FileExistsError, match="Set CHRONIKER_RUNTIME_DIR"):
        runtime_dir()


@pytest.mark.parametrize("bits", [0o777, 0o770, 0o1777])
def test_directory_writable_by_others_is_rejected_or_made_private(
    runtime_directory: Path, bits: int
) -> None:
    runtime_directory.mkdir(parents=True)
    runtime_directory.chmod(bits)

    try:
        runtime_dir()
    except PermissionError:
        return
    assert not mode(runtime_directory) & 0o022


def test_foreign_symlink_is_rejected(runtime_directory: Path, tmp_path: Path) -> None:
    require("root")
    ours = tmp_path / "ours"
    ours.mkdir(mode=0o700)
    runtime_directory.parent.mkdir()
    runtime_directory.symlink_to(ours)
    os.chown(runtime_directory, 65534, 65534, follow_symlinks=False)

    with pytest.raises(PermissionError):
        runtime_dir()


@pytest.mark.parametrize("session", ["", "/run/user/7"])
def test_cron_and_login_shell_use_the_same_default_directory(
    monkeypatch: pytest.MonkeyPatch, session: str
) -> None:
    name = f"chroniker-{os.geteuid()}"
    monkeypatch.setenv("XDG_RUNTIME_DIR", session)
    assert default_runtime_dir() in (f"/run/{name}", f"/tmp/{name}")


def test_pid_file_is_in_the_runtime_directory(runtime_directory: Path) -> None:
    assert str(runtime_directory / f"cron-{site_identity()}.pid") == conf.PID_FILE
    with override_settings(CHRONIKER_PID_FILE="/else/where"):
        assert conf.PID_FILE == "/else/where"
