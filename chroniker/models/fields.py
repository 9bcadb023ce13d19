"""Columns that are written in a way of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils.timezone import now as utc_now

if TYPE_CHECKING:
    from datetime import datetime

    CharField = models.CharField[str, str]
    DateTimeField = models.DateTimeField[datetime, datetime]
else:
    CharField = models.CharField
    DateTimeField = models.DateTimeField


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


class UpdatedAtField(DateTimeField):
    """The time of the last ``save()``, like ``auto_now``; and a default.

    ``auto_now`` writes nothing when a fixture is loaded, so that one without the column ended in a
    NOT NULL error.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(editable=False, blank=True, default=utc_now)
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        """Leave out the options that the field sets itself."""
        name, path, args, kwargs = super().deconstruct()
        for key in ("editable", "blank", "default"):
            kwargs.pop(key, None)
        return name, path, args, kwargs

    def pre_save(self, model_instance: models.Model, add: bool) -> datetime:
        """Set it to the current time."""
        moment = utc_now()
        setattr(model_instance, self.attname, moment)
        return moment
