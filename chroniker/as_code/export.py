"""Export: a document of all jobs, monitors and maintenance windows."""

from __future__ import annotations

from datetime import datetime

from chroniker.models import Job

from .desired import EDGE_FLAGS, GROUPS, MAINTENANCE, UPSTREAM
from .documents import VERSION, Document, Fields
from .kinds import Kind, Values, kinds
from .windows import as_document, current_windows


def export(now: datetime) -> Document:
    """Return the document. Values that are the default are left out."""
    document: Fields = {"version": VERSION}
    for kind in kinds():
        rows = kind.rows()
        if rows:
            document[kind.key] = {
                name: _definition(kind, row, values) for name, (row, values) in rows.items()
            }
    windows = [as_document(row) for row in current_windows(now).values()]
    if windows := [window for window in windows if window is not None]:
        document[MAINTENANCE] = windows
    return document


def _definition(kind: Kind, job: Job, values: Values) -> Fields:
    defaults = kind.defaults()
    found = {
        name: value
        for name, value in values.items()
        if value != defaults[name] or name in kind.required
    }
    if groups := sorted(job.subscriber_groups.values_list("name", flat=True)):
        found[GROUPS] = groups
    edges = [
        {"job": row.pop("upstream__name")}
        | {flag: value for flag, value in row.items() if value != EDGE_FLAGS[flag]}
        for row in job.dependencies.order_by("upstream__name").values("upstream__name", *EDGE_FLAGS)
    ]
    if edges:
        found[UPSTREAM] = [edge["job"] if len(edge) == 1 else edge for edge in edges]
    return found
