"""The table of families as Markdown, for docs/reference/metrics.md.

``python -m chroniker_monitors.collector.reference docs/reference/metrics.md`` writes it between the file's
markers; a test holds the file against it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .metrics import LEVELS, MetricFamily

BEGIN = "<!-- made by chroniker_monitors.collector.reference; do not edit -->"
END = "<!-- end -->"
TITLES = {
    "job": "What people defined: once for each job",
    "slot": "What happened: once for each job, or for each host of a job that runs on every one",
    "monitor": "What people defined of monitors: once for each",
    "sample": "What was measured: once for each monitor, or for each host that measures it",
    "host": "Machines that tick",
    "incident": "What people are told: once",
    "collector": "The scrape itself",
}


def render_table() -> str:
    """All families, a section for each level."""
    return "\n".join(_section(level) for level in LEVELS)


def replace_table(text: str) -> str:
    """A document with the present table between its markers. Raises ValueError without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"The document lacks {BEGIN!r} or {END!r}.")
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
