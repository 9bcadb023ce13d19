"""Make all examinations."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.module_loading import autodiscover_modules

from . import cron, database, leftovers, mail, site, tasks, ticks  # noqa: F401 - they register themselves
from .findings import Area, Finding, Level
from .registry import MODULE, Entry, Installation, Needs, entries


def examine(installation: Installation) -> list[Finding]:
    """Make all examinations, and return the findings in the order of their areas.

    An examination that raises is a finding itself: the others are still made.
    """
    findings: list[Finding] = []
    try:
        autodiscover_modules(MODULE)
    except Exception as error:  # the module of a site may raise anything
        findings.append(_failure(Area.DOCTOR, error))
    missing = Needs.TABLES + 1
    for needs in Needs:
        if needs >= missing:
            break
        for entry in [entry for entry in entries() if entry.needs == needs]:
            findings += _made(entry, installation)
        if any(finding.level is Level.ERROR for finding in findings if _blocks(finding)):
            missing = needs + 1
    order = list(Area)
    return sorted(findings, key=lambda finding: order.index(finding.area))


_BLOCKING = (
    "database.unreachable",
    "migrations.missing",
    "migrations.original",
    "migrations.schema",
    "settings.chroniker.E006",  # times of the database have no time zone
)


def _blocks(finding: Finding) -> bool:
    """Whether nothing that reads tables can be examined after this finding."""
    return finding.id in _BLOCKING


def _made(entry: Entry, installation: Installation) -> Iterator[Finding]:
    try:
        yield from list(entry.examine(installation))
    except Exception as error:
        yield _failure(entry.area, error)


def _failure(area: Area, error: Exception) -> Finding:
    reason = " ".join(str(error).split()) or type(error).__name__
    return Finding(
        area,
        f"{area}.not-examined",
        Level.ERROR,
        f"This could not be examined: {type(error).__name__}: {reason}",
        "Fix the other findings first, and run chroniker_doctor again.",
    )
