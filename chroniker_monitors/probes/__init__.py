"""Stub of the probes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import time
import types
import typing
from dataclasses import dataclass
from typing import Any, ClassVar

from chroniker_monitors.exceptions import ParamsInvalid, UnknownKind

_KINDS: dict[str, type[BaseProbe]] = {}


@dataclass(frozen=True, slots=True)
class Reading:
    """What run() returns."""

    value: float
    message: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What measure() returns."""

    value: float | None
    message: str
    unit: str
    latency_seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class ParamField:
    """A parameter as a form shows it."""

    name: str
    label: str
    help: str
    type: type
    default: Any
    required: bool
    choices: Any = None
    multiline: bool = False
    secret: bool = False


def param(default: Any = dataclasses.MISSING, **metadata: Any) -> Any:
    """A parameter."""
    return dataclasses.field(default=default, metadata=metadata)


class BaseProbe:
    """The base."""

    __slots__ = ()
    kind: ClassVar[str]
    label: ClassVar[str]
    unit: ClassVar[str] = ""
    passive: ClassVar[bool] = False

    def run(self) -> Reading:
        """Measure."""
        raise NotImplementedError


def register_probe(cls: Any) -> Any:
    """Register."""
    _KINDS[cls.kind] = cls
    return cls


def probe_kinds() -> dict[str, type[BaseProbe]]:
    """All kinds."""
    return dict(_KINDS)


def fields(kind: str) -> list[ParamField]:
    """Parameters of a kind."""
    if kind not in _KINDS:
        raise UnknownKind(f"There is no kind of probe {kind!r}.")
    cls: Any = _KINDS[kind]
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if isinstance(hint, types.UnionType):
            hint = next(a for a in hint.__args__ if a is not type(None))
        required = field.default is dataclasses.MISSING
        found.append(
            ParamField(
                name=field.name,
                label=field.metadata.get("label", field.name),
                help=field.metadata.get("help", ""),
                type=hint,
                default=None if required else field.default,
                required=required,
                choices=field.metadata.get("choices"),
                multiline=field.metadata.get("multiline", False),
                secret=field.metadata.get("secret", False),
            )
        )
    return found


def build(kind: str, params: dict[str, Any]) -> BaseProbe:
    """A probe of a kind."""
    known = {field.name: field for field in fields(kind)}
    errors: dict[str, list[str]] = {}
    for name in params:
        if name not in known:
            errors[name] = ["There is no such parameter."]
    for name, field in known.items():
        if field.required and params.get(name) in (None, ""):
            errors[name] = ["Required."]
        elif name in params and field.type is float and not isinstance(params[name], int | float):
            errors[name] = ["A number."]
    if errors:
        raise ParamsInvalid(errors)
    return _KINDS[kind](**params)


def measure(probe: BaseProbe, *, timeout: float) -> Measurement:
    """Measure without raising."""
    began = time.monotonic()

    def late(*args: Any) -> None:
        raise TimeoutError(f"It took longer than {timeout:g} s.")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        reading = probe.run()
    except Exception as error:
        return Measurement(None, "", probe.unit, time.monotonic() - began, str(error))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    unit = reading.unit or probe.unit
    return Measurement(reading.value, reading.message, unit, time.monotonic() - began, "")


def _measures() -> list[tuple[str, str]]:
    return [("percent_used", "percent used"), ("free_bytes", "bytes free")]


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class Disk(BaseProbe):
    """How full a filesystem is."""

    kind = "disk"
    label = "Disk"
    unit = "%"
    path: str = param("/", label="path", help="of a directory on it")
    measure: str = param("percent_used", label="measure", choices=_measures)

    def run(self) -> Reading:
        """Measure."""
        usage = shutil.disk_usage(self.path)
        if self.measure == "free_bytes":
            return Reading(usage.free, f"{usage.free} bytes free on {self.path}", "B")
        percent = 100 * usage.used / usage.total
        return Reading(percent, f"{percent:.1f} % of {self.path} used")


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class File(BaseProbe):
    """How old a file is."""

    kind = "file"
    label = "File"
    unit = "s"
    path: str = param(label="path")
    missing_ok: bool = param(False, label="may be missing")

    def run(self) -> Reading:
        """Measure."""
        age = time.time() - os.stat(self.path).st_mtime
        return Reading(age, f"{self.path} is {age:.0f} s old")


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(BaseProbe):
    """An outside job that pings."""

    kind = "heartbeat"
    label = "Heartbeat"
    unit = "s"
    passive = True
    period_seconds: float = param(86400.0, label="period")
    grace_seconds: float = param(3600.0, label="grace")


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class Sql(BaseProbe):
    """SQL."""

    kind = "sql"
    label = "SQL"
    statement: str = param(label="statement", multiline=True)

    def run(self) -> Reading:
        """Measure."""
        return Reading(1)
