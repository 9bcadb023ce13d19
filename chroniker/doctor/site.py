"""The settings of the site: its system checks, those for a deployment included."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, run_checks
from django.core.checks import messages as levels

from chroniker.conf import runtime_dir

from .findings import Area, Finding, Level
from .registry import Installation, examination

PREFIXES = ("chroniker.", "chroniker_monitors.")


@examination(Area.SETTINGS)
def examine_settings(installation: Installation) -> Iterator[Finding]:
    """Report what ``manage.py check --deploy`` says about Chroniker."""
    found = [
        message
        for message in run_checks(include_deployment_checks=True, databases=[])
        if str(message.id).startswith(PREFIXES)
        and message.level >= levels.WARNING
        and not message.is_silenced()
    ]
    yield from map(_finding, found)
    if not found:
        yield Finding(Area.SETTINGS, "settings", Level.OK, "The settings are valid.")


@examination(Area.SETTINGS)
def examine_runtime_directory(installation: Installation) -> Iterator[Finding]:
    """Check that lock files can be written, by the user who runs the doctor."""
    try:
        runtime_dir()
    except OSError as error:
        yield Finding(
            Area.SETTINGS,
            "settings.runtime-directory",
            Level.ERROR,
            str(error),
            "Run the doctor as the user who runs the jobs; if that changes nothing, follow the "
            "message.",
        )


def _finding(message: CheckMessage) -> Finding:
    level = Level.ERROR if message.level >= levels.ERROR else Level.WARNING
    return Finding(
        Area.SETTINGS, f"settings.{message.id}", level, str(message.msg), str(message.hint or "")
    )
