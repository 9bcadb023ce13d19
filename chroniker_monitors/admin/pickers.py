"""What can be chosen of a model, for the form of a ``records`` monitor."""

from __future__ import annotations

from typing import Any

from chroniker.exceptions import ChronikerError
from chroniker_monitors.probes import lookups

MODEL, FIELD = "param_model", "param_field"
FIELDS_LIST = "chroniker-fields"
"""The id of the list in the page from which a field is chosen."""


def field_names(label: str) -> list[str]:
    """The fields of a model that monitors may look at; none where they may not look at it."""
    try:
        return list(lookups.field_names(label))
    except ChronikerError:
        return []


def link_fields(fields: dict[str, Any], url: str) -> bool:
    """Let the field be chosen from a list that follows the model; whether there is such a pair."""
    if MODEL not in fields or FIELD not in fields:
        return False
    fields[MODEL].widget.attrs["data-fields-url"] = url
    fields[FIELD].widget.attrs["list"] = FIELDS_LIST
    return True
