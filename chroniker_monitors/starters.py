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
class Starter:
    """One of them; ``fields`` are those of job and probe."""

    name: str
    kind: str
    description: str
    params: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a starter: made, or why not."""

    starter: Starter
    made: bool
    why: str = ""


def starters() -> Iterator[Starter]:
    """Those that fit this site."""
    yield Starter(
        "Disk space", "disk", "How full the root filesystem of each host is.",
        {"path": "/", "measure": "percent_used"},
        {"warning": 80, "critical": 90, "schedule": "*/5 * * * *", "hostname": EVERY_HOST},
    )  # fmt: skip
    yield Starter(
        "Memory", "memory", "How much of the memory of each host is in use.",
        {"measure": "percent_used"},
        {"warning": 85, "critical": 95, "consecutive": 3, "schedule": "* * * * *",
         "hostname": EVERY_HOST},
    )  # fmt: skip
    yield Starter(
        "Database latency", "database", "How long it takes to connect and to be answered.",
        {"alias": "default", "measure": "latency"},
        {"warning": 0.5, "critical": 2, "consecutive": 3, "schedule": "* * * * *"},
    )  # fmt: skip
    yield Starter(
        "Unapplied migrations", "migrations", "A release whose migrations were forgotten.",
        {"alias": "default"},
        # Not at once: while a release is on its way there may well be some.
        {"warning": 0, "consecutive": 3, "schedule": "*/5 * * * *"},
    )  # fmt: skip
    yield Starter(
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
        yield Starter(
            f"Certificate of {site.hostname}", "tls", "Days until it expires.",
            {"host": site.hostname, "port": site.port or 443},
            {"operator": "<", "warning": 21, "critical": 7, "consecutive": 2,
             "schedule": "H * * * *"},
        )  # fmt: skip


def add_starters() -> Iterator[Added]:
    """Make those that are not there yet; one that has been renamed is made again."""
    present = set(Job.objects.values_list("name", flat=True))
    for starter in starters():
        if starter.name in present:
            yield Added(starter, made=False, why="a job of this name is there")
            continue
        try:
            Monitor.objects.define(
                name=starter.name,
                kind=starter.kind,
                params=starter.params,
                description=starter.description,
                **starter.fields,
            )
        except (UnknownKind, ParamsInvalid) as error:
            yield Added(starter, made=False, why=str(error))
        else:
            yield Added(starter, made=True)
