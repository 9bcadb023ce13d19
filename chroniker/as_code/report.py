"""The plan as text."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .plan import Action, Change, FieldChange, Plan

_SIGNS = {Action.CREATE: "+", Action.UPDATE: "~", Action.DELETE: "-", Action.KEEP: "="}
_WIDTH = 60


def lines(plan: Plan, *, applied: bool) -> Iterator[str]:
    """Yield the lines of a plan, or of what was applied."""
    for change in plan.changes:
        source = f"  ({change.source})" if change.source else ""
        yield f"{_SIGNS[change.action]} {change.section}: {change.name}{source}"
        for field in change.fields:
            yield f"    {_field(change, field)}"
    if plan.unmanaged:
        yield f"Not declared, and left as they are: {', '.join(plan.unmanaged)}."
        yield "With a FILE, --prune deletes them, with their history."
    yield _summary(plan, applied=applied)


def _field(change: Change, field: FieldChange) -> str:
    if change.action is Action.CREATE:
        return f"{field.name}: {_value(field.new)}"
    text = f"{field.name}: {_value(field.old)} -> {_value(field.new)}"
    if field.kept:
        return f"{text}  edited by a person, kept; --overwrite replaces it"
    return f"{text}  edited by a person since it was last applied" if field.edited else text


def _value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"


def _summary(plan: Plan, *, applied: bool) -> str:
    counts = dict.fromkeys(Action, 0)
    for change in plan.changes:
        counts[change.action] += 1
    if not plan.changes:
        return "Nothing to change."
    verbs = {
        Action.CREATE: "created",
        Action.UPDATE: "changed",
        Action.DELETE: "deleted",
        Action.KEEP: "kept as edited",
    }
    to_be = "" if applied else "to be "
    parts = [f"{number} {to_be}{verbs[action]}" for action, number in counts.items() if number]
    return ", ".join(parts).replace("to be kept", "kept") + "."
