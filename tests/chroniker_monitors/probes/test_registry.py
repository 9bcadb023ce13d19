"""Registered kinds: shipped ones, those of a site, and those of other packages."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from chroniker_monitors.checking.measurement import measure
from chroniker_monitors.exceptions import UnknownKind
from chroniker_monitors.probes import (
    BaseProbe,
    Reading,
    build_probe,
    kind_class,
    preload,
    probe_kinds,
    register_probe,
    registry,
)
from tests.support.machine import REPO

SHIPPED = {
    "command", "cpu", "database", "disk", "file", "health", "heartbeat", "http", "load", "memory",
    "migrations", "process", "queue", "records", "sql", "swap", "tcp", "tls",
}  # fmt: skip


def test_shipped_kinds_are_listed_in_order() -> None:
    names = list(probe_kinds())
    assert names == sorted(names)
    assert set(names) >= SHIPPED == set(registry.SHIPPED)


@pytest.mark.parametrize("kind", ["nope", "", "Disk", "disk ", None, ["disk"]])
def test_unregistered_kind_is_unknown(kind: Any) -> None:
    with pytest.raises(UnknownKind, match="There is no kind of monitor"):
        build_probe(kind, {})


def test_misspelled_kind_gets_a_suggestion() -> None:
    with pytest.raises(UnknownKind, match="Did you mean 'memory'"):
        kind_class("memroy")


def test_site_can_register_its_own_kind(kinds: None) -> None:
    @register_probe
    @dataclass(frozen=True, slots=True, kw_only=True)
    class AnswerProbe(BaseProbe):
        kind: ClassVar[str] = "answer"
        number: int = 42

        def run(self) -> Reading:
            return Reading(self.number, "as ever", "answers")

    assert kind_class("answer") is AnswerProbe
    found = measure(build_probe("answer", {"number": 41}), timeout=5)
    assert (found.value, found.message, found.unit) == (41, "as ever", "answers")


@pytest.mark.parametrize("kind", ["", "Upper", "9lives", "with space", "a" * 33, "disk"])
def test_kind_name_must_be_its_own(kinds: None, kind: str) -> None:
    cls = dataclass(frozen=True, kw_only=True)(type("Bad", (BaseProbe,), {"kind": kind}))
    with pytest.raises(ValueError, match="kind"):
        register_probe(cls)


def test_kind_cannot_be_registered_by_two_classes(kinds: None) -> None:
    first, second = (
        dataclass(frozen=True, kw_only=True)(type(name, (BaseProbe,), {"kind": "twin"}))
        for name in ("Castor", "Pollux")
    )
    register_probe(first)
    assert register_probe(first) is first, "a module that is imported again"
    with pytest.raises(ValueError, match="Castor"):
        register_probe(second)


def test_class_that_is_not_a_probe_dataclass_is_rejected(kinds: None) -> None:
    with pytest.raises(TypeError, match="dataclass"):
        register_probe(type("Plain", (BaseProbe,), {"kind": "plain"}))
    with pytest.raises(TypeError, match="not a subclass"):
        register_probe(int)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="str, int, float or bool"):

        @register_probe
        @dataclass(frozen=True, slots=True, kw_only=True)
        class Listed(BaseProbe):
            kind: ClassVar[str] = "listed"
            names: list[str]


PACKAGE = """
from dataclasses import dataclass
from typing import ClassVar
from chroniker_monitors.probes import BaseProbe, Reading

@dataclass(frozen=True, slots=True, kw_only=True)
class Weather(BaseProbe):
    kind: ClassVar[str] = "weather"
    def run(self):
        return Reading(21.5)
"""
POINTS = """[chroniker.probes]
broken = weather_probes_missing:Nothing
also_broken = weather_probes:Nothing
weather = weather_probes:Weather
"""
SHOW = """
import django, logging
logging.basicConfig(format="%(levelname)s %(message)s")
django.setup()
from chroniker_monitors.checking.measurement import measure
from chroniker_monitors.probes import build_probe, probe_kinds
print(measure(build_probe("weather", {}), timeout=10).value)
print(len(probe_kinds()))
"""


@pytest.mark.slow
def test_entry_points_register_kinds_and_broken_ones_are_logged(
    tmp_path: Path,
) -> None:
    (tmp_path / "weather_probes.py").write_text(PACKAGE)
    info = tmp_path / "weather_probes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: weather-probes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    done = _python(SHOW, tmp_path)
    # The test site also has its own kinds.
    assert done.stdout.split() == ["21.5", str(len(SHIPPED) + 3)], done.stderr
    assert "The probe broken of weather_probes_missing:Nothing cannot be loaded" in done.stderr
    assert "The probe also_broken" in done.stderr


HEAVY = ("ssl", "http.client", "kombu", "redis", "health_check", "asyncio", "sqlparse")
LIGHT = f"""
import sys, django
django.setup()
before = set(sys.modules)
from chroniker_monitors.probes import build_probe
for kind, params in (("disk", {{}}), ("memory", {{}}), ("tcp", {{"host": "a", "port": 1}}),
                     ("http", {{"url": "https://a/"}}), ("queue", {{}}), ("database", {{}})):
    try:
        build_probe(kind, params)
    except Exception as error:
        assert "default" in str(error), error
loaded = set(sys.modules) - before
print([name for name in {HEAVY!r} if name in loaded])
"""


def test_heavy_imports_happen_only_on_use(tmp_path: Path) -> None:
    assert _python(LIGHT, tmp_path).stdout.strip() == "[]"


@pytest.mark.slow
def test_preloaded_modules_are_imported_before_the_fork(tmp_path: Path) -> None:
    code = (
        "import sys, django\ndjango.setup()\nfrom chroniker_monitors.probes import preload\n"
        "preload(['queue', 'nope', 'disk'])\nprint('kombu' in sys.modules)\n"
    )
    assert _python(code, tmp_path).stdout.strip() == "True"


def test_preloading_never_fails(kinds: None) -> None:
    registry._kinds["lacking"] = dataclass(frozen=True, kw_only=True)(
        type("Lacking", (BaseProbe,), {"kind": "lacking", "modules": ("no_such_module",)})
    )
    preload(["lacking", "nope", *SHIPPED])


def _python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": ":".join(str(path) for path in (*paths, REPO)),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done
