"""Duplicating a job: the values that the form of the new job starts with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.forms import ModelForm
from django.forms.models import model_to_dict
from django.utils.translation import gettext as _

from chroniker.models import Job, JobDependency

if TYPE_CHECKING:
    DependencyForm = ModelForm[JobDependency]
else:
    DependencyForm = ModelForm

_DEPENDENCIES = "_chroniker_copied_dependencies"
_CONDITIONS = ("upstream", "wait_for_completion", "wait_for_success", "wait_for_next_run")


class CopiedDependencyForm(DependencyForm):
    """A new dependency with initial values is saved even if nobody changed them."""

    def has_changed(self) -> bool:
        """Whether it is to be saved."""
        copied = self.instance.pk is None and "upstream" in self.initial
        return copied or super().has_changed()


def copied_values(source: Job) -> dict[str, Any]:
    """The editable fields of a job. The copy is disabled until somebody has checked it."""
    limit = Job._meta.get_field("name").max_length or 200
    room = limit - len(_("%(name)s (copy)") % {"name": ""})
    name = _("%(name)s (copy)") % {"name": source.name[:room]}
    return {**model_to_dict(source), "name": name, "enabled": False}


def copied_dependencies(source: Job) -> list[dict[str, Any]]:
    """What a job waits for, as initial values of forms; read once."""
    known: list[dict[str, Any]] | None = getattr(source, _DEPENDENCIES, None)
    if known is None:
        rows = source.dependencies.order_by("pk")
        known = [model_to_dict(one, fields=_CONDITIONS) for one in rows]
        setattr(source, _DEPENDENCIES, known)
    return known
