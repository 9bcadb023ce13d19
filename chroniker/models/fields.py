"""A column that only the scheduler writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    CharField = models.CharField[str, str]
else:
    CharField = models.CharField


class SchedulerOwnedField(CharField):
    """A column of the scheduler on a row that people edit.

    ``save()`` never writes it (it sets the column to itself) and fixtures do not contain it, so
    that neither an old form nor a loaded dump restores an old value. The scheduler writes it with
    ``QuerySet.update()``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(editable=False, serialize=False, blank=True, default="")
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        """Leave out the options that the field sets itself."""
        name, path, args, kwargs = super().deconstruct()
        for key in ("editable", "serialize", "blank", "default"):
            kwargs.pop(key, None)
        return name, path, args, kwargs

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Empty for a new row; an existing row keeps its value."""
        return "" if add else models.F(self.attname)
