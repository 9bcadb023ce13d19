"""The report of the doctor, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from .findings import Finding, Level, worst

Paint = Callable[[str], str]


def as_json(findings: Sequence[Finding], cron_line: str) -> str:
    """Return the findings as JSON."""
    return json.dumps(
        {
            "status": str(worst(findings)),
            "cron_line": cron_line,
            "findings": [finding.as_dict() for finding in findings],
        },
        indent=2,
        ensure_ascii=False,
    )


def as_text(findings: Sequence[Finding], cron_line: str, paint: Mapping[Level, Paint]) -> str:
    """Return the findings as lines: area, level, message; the remedy and the id below it."""
    lines = []
    for finding in findings:
        level = paint[finding.level](f"{finding.level:<8}")
        lines.append(f"{finding.area:<11}{level}{finding.message}")
        if finding.level is not Level.OK:
            lines.append(f"{'':<19}{finding.remedy} [{finding.id}]")
    lines += ["", f"The line for the crontab: {cron_line}", summary(findings)]
    return "\n".join(lines)


def summary(findings: Sequence[Finding]) -> str:
    """Return one sentence with the numbers of errors and warnings."""
    counts = {
        level: sum(finding.level is level for finding in findings)
        for level in (Level.ERROR, Level.WARNING)
    }
    if not any(counts.values()):
        return "Nothing is wrong."
    words = [
        f"{number} {level}{'s' if number > 1 else ''}" for level, number in counts.items() if number
    ]
    return f"Found: {' and '.join(words)}."
