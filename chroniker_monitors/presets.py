"""Monitors that nearly every site wants, to begin with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from chroniker.conf import conf
from chroniker.models import Job

from .exceptions import ParamsInvalid, UnknownKind
from .models import Monitor

EVERY_HOST = "*"


@dataclass(frozen=True, slots=True)
class Preset:
    """One of them; ``fields`` are those of job and probe."""

    name: str
    kind: str
    description: str
    params: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PresetResult:
    """What became of a starter: made, or why not."""

    preset: Preset
    created: bool
    reason: str = ""


def iter_presets() -> Iterator[Preset]:
    """Those that fit this site."""
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
        "Database latency", "database", "How long it takes to connect and to be answered.",
        {"alias": "default", "measure": "latency"},
        {"warning": 0.5, "critical": 2, "consecutive": 3, "schedule": "* * * * *"},
    )  # fmt: skip
    yield Preset(
        "Unapplied migrations", "migrations", "A release whose migrations were forgotten.",
        {"alias": "default"},
        # Not at once: while a release is on its way there may well be some.
        {"warning": 0, "consecutive": 3, "schedule": "*/5 * * * *"},
    )  # fmt: skip
    yield Preset(
        "Failed runs", "records", "Runs of the last hour that went wrong.",
        {
            "model": "chroniker.Run",
            "measure": "count",
            "filters": "status__in = failed, timed_out, lost\nended_at__gte = now-1h",
            "exclude": "job__command = check_monitor",  # each of which alerts by itself
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
    """Make those that are not there yet; one that has been renamed is made again."""
    present = set(Job.objects.values_list("name", flat=True))
    for preset in iter_presets():
        if preset.name in present:
            yield PresetResult(preset, created=False, reason="a job of this name is there")
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
