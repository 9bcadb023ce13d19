"""Choose the fields of a model, in the form of a ``records`` monitor."""

from __future__ import annotations

from django.forms import BaseForm, Field
from django.utils.translation import gettext as _

from chroniker.exceptions import ChronikerError
from chroniker_monitors.probes import lookups

from .templates import render

MODEL, FIELD, GROUP = "param_model", "param_field", "param_group_by"
FIELDS_LIST, GROUPS_LIST = "chroniker-fields", "chroniker-groups"
"""The ids of the lists in the page that suggest fields."""


def field_names(label: str) -> list[str]:
    """Return the fields of a model that monitors may use; none if they may not use the model."""
    try:
        return list(lookups.field_names(label))
    except ChronikerError:
        return []


def group_names(label: str) -> list[str]:
    """Return the fields of a model that may define groups; none if monitors may not use it."""
    try:
        return list(lookups.group_names(label))
    except ChronikerError:
        return []


def link_fields(fields: dict[str, Field], url: str) -> bool:
    """Let the suggested fields follow the chosen model. Return whether the form has both."""
    if not {MODEL, FIELD, GROUP} <= fields.keys():
        return False
    fields[MODEL].widget.attrs["data-fields-url"] = url
    fields[FIELD].widget.attrs["list"] = FIELDS_LIST
    fields[GROUP].widget.attrs["list"] = GROUPS_LIST
    return True


def show_names(form: BaseForm) -> None:
    """List the fields of the chosen model below the fields of the form that take one."""
    model = form[MODEL].value() or ""
    for name, list_id, label, names in (
        (FIELD, "chroniker-field-names", _("Fields of the model:"), field_names(model)),
        (GROUP, "chroniker-group-names", _("Fields for groups:"), group_names(model)),
    ):
        field = form[name]
        context = {"help": field.help_text, "id": list_id, "label": label, "names": names}
        field.help_text = render("field_help.html", context)
