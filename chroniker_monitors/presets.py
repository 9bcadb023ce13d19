"""Preset monitors that most sites want."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from chroniker.conf import conf
from chroniker.models import Job

from .exceptions import ParamsInvalid, UnknownKind
from .models import Monitor

EVERY_HOST = "*"


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset. ``fields`` are fields of the job or the probe."""

    name: str
    kind: str
    description: str
    params: Mapping[str, object] = field(default_factory=dict)
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PresetResult:
    """Whether a preset was created, or why not."""

    preset: Preset
    created: bool
    reason: str = ""


def iter_presets() -> Iterator[Preset]:
    """Yield the presets that fit this site."""
    yield Preset(
        "Disk space", "disk", "How full the root filesystem of each host is.",
        {"path": "/", "measure": "percent_used"},
        {"warning": 80, "critical": 90, "schedule": "*/5 * * * *", "hostname": EVERY_HOST},
    )  # fmt: skip
    yield Preset(
        "Memory", "memory", "How much of the memory of each host is in use.",
        {"measure": "percent_used"},
        {"warning": 85, "critical": 95, "consecutive": 3, "schedule": "* * * * *",
         "hostname": EVERY_HOST},
    )  # fmt: skip
    yield Preset(
        "Database latency", "database", "How long it takes to connect and run a query.",
        {"alias": "default", "measure": "latency"},
        {"warning": 0.5, "critical": 2, "consecutive": 3, "schedule": "* * * * *"},
    )  # fmt: skip
    yield Preset(
        "Unapplied migrations", "migrations", "Migrations that have not been applied.",
        {"alias": "default"},
        # Not after one sample: during a deployment there may be some for a while.
        {"warning": 0, "consecutive": 3, "schedule": "*/5 * * * *"},
    )  # fmt: skip
    yield Preset(
        "Failed runs", "records", "Runs that failed in the last hour.",
        {
            "model": "chroniker.Run",
            "measure": "count",
            "filters": "status__in = failed, timed_out, lost\nended_at__gte = now-1h",
            # A failed check makes its monitor unknown, which alerts by itself.
            "exclude": "job__failures_open_incidents = false",
        },
        {"warning": 0, "critical": 10, "schedule": "*/5 * * * *"},
    )  # fmt: skip
    site = urlsplit(conf.SITE_URL)
    if site.scheme == "https" and site.hostname:
        yield Preset(
            f"Certificate of {site.hostname}", "tls", "Days until it expires.",
            {"host": site.hostname, "port": site.port or 443},
            {"operator": "<", "warning": 21, "critical": 7, "consecutive": 2,
             "schedule": "H * * * *"},
        )  # fmt: skip


def add_presets() -> Iterator[PresetResult]:
    """Create the presets that do not exist. A preset that was renamed is created again."""
    present = set(Job.objects.values_list("name", flat=True))
    for preset in iter_presets():
        if preset.name in present:
            yield PresetResult(preset, created=False, reason="a job with this name exists")
            continue
        try:
            Monitor.objects.define(
                name=preset.name,
                kind=preset.kind,
                params=preset.params,
                description=preset.description,
                **preset.fields,
            )
        except (UnknownKind, ParamsInvalid) as error:
            yield PresetResult(preset, created=False, reason=str(error))
        else:
            yield PresetResult(preset, created=True)
