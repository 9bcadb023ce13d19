"""Render the table of metrics as Markdown, for the reference.

``python -m chroniker_monitors.collector.reference docs/reference/metrics.md`` writes it between
the markers of the file. A test checks that the file is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .metrics import LEVELS, MetricFamily

BEGIN = "<!-- made by chroniker_monitors.collector.reference; do not edit -->"
END = "<!-- end -->"
TITLES = {
    "job": "Job definitions: one series per job",
    "placement": "Runs: one series per job, or per host if the job runs on every host",
    "monitor": "Monitor definitions: one series per monitor",
    "sample": "Measurements: one series per monitor, or per host that measures it",
    "host": "Hosts: one series per host that ticks",
    "fleet": "All jobs together: one series per site",
    "incident": "Incidents and notifications: one series per site",
    "collector": "The scrape itself: one series per site",
}


def render_table() -> str:
    """Render all families, with one section per level."""
    return "\n".join(_section(level) for level in LEVELS)


def replace_table(text: str) -> str:
    """Replace the table between the document's markers. Raises ValueError if one is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"The document has no {BEGIN!r} or no {END!r}.")
    return f"{before}{BEGIN}\n\n{render_table()}\n{END}{after}"


def _section(level: str) -> str:
    lines = [
        f"### {TITLES[level]}",
        "",
        "| metric | type | labels | unit | meaning and example |",
        "|---|---|---|---|---|",
        *(_row(family, family.labels(level)) for family in LEVELS[level]),
        "",
    ]
    return "\n".join(lines)


def _row(family: MetricFamily, labels: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{label}`" for label in labels)
    label, values = family.by
    if label:
        shown += f" ({', '.join(values)})"
    return (
        f"| `{family.name}` | {family.type} | {shown} | {family.unit} "
        f"| {family.help}<br>`{family.example}` |"
    )


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(replace_table(document.read_text()))
