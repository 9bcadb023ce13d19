"""Columns: one that only the scheduler writes, and a relation that no replica validates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.timezone import now as utc_now

if TYPE_CHECKING:
    from datetime import datetime

    CharField = models.CharField[str, str]
    JobRelation = models.ForeignKey[Any, Any]
    DateTimeField = models.DateTimeField[datetime, datetime]
else:
    CharField = models.CharField
    JobRelation = models.ForeignKey
    DateTimeField = models.DateTimeField


class JobForeignKey(JobRelation):
    """A job, which forms look for where jobs are written.

    Django validates a foreign key where the site's router reads. A replica may not have a new job
    yet, and the form would say that it does not exist.
    """

    def deconstruct(self) -> Any:
        """A foreign key in migrations: the difference is in Python only."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.ForeignKey", args, kwargs

    def validate(self, value: Any, model_instance: models.Model | None) -> None:
        """Check that the job exists."""
        super(models.ForeignKey, self).validate(value, model_instance)
        job = self.remote_field.model
        if value is not None and not job._base_manager.filter(pk=value).exists():
            raise ValidationError(
                self.error_messages["invalid"],
                code="invalid",
                params={
                    "model": job._meta.verbose_name,
                    "pk": value,
                    "field": self.remote_field.field_name,
                    "value": value,
                },
            )


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
