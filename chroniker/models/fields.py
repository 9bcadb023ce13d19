"""A column that only the scheduler writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    CharField = models.CharField[str, str]
else:
    CharField = models.CharField


class SchedulerOwnedField(CharField):
    """A note that the scheduler keeps on a row which people edit.

    ``save()`` of the row never writes it (it sets the column to itself), nor do fixtures carry
    it, so that neither a form that was opened long ago nor a loaded dump can bring back an old
    note. The scheduler writes it with ``QuerySet.update()``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(editable=False, serialize=False, blank=True, default="")
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        """Leave out what the field sets by itself."""
        name, path, args, kwargs = super().deconstruct()
        for key in ("editable", "serialize", "blank", "default"):
            kwargs.pop(key, None)
        return name, path, args, kwargs

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """A new row starts without a note; an old one keeps what the database has."""
        return "" if add else models.F(self.attname)
