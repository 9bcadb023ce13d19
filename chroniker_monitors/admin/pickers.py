"""Choose a field of a model, in the form of a ``records`` monitor."""

from __future__ import annotations

from django.forms import Field

from chroniker.exceptions import ChronikerError
from chroniker_monitors.probes import lookups

MODEL, FIELD = "param_model", "param_field"
FIELDS_LIST = "chroniker-fields"
"""The id of the list in the page that suggests fields."""


def field_names(label: str) -> list[str]:
    """Return the fields of a model that monitors may use; none if they may not use the model."""
    try:
        return list(lookups.field_names(label))
    except ChronikerError:
        return []


def link_fields(fields: dict[str, Field], url: str) -> bool:
    """Let the suggested fields follow the chosen model. Return whether the form has both."""
    if MODEL not in fields or FIELD not in fields:
        return False
    fields[MODEL].widget.attrs["data-fields-url"] = url
    fields[FIELD].widget.attrs["list"] = FIELDS_LIST
    return True
