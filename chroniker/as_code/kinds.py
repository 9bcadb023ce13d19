"""The kinds of definitions in a file: jobs here, monitors from their own app."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models
from django.utils.module_loading import autodiscover_modules

from chroniker.models import Job

from .documents import JSON, Document, Fields

MODULE = "chroniker_as_code"
"""The module of an app that registers a kind."""

Values = Document

if TYPE_CHECKING:
    AnyField = models.Field[Any, Any]
else:
    AnyField = models.Field

_LEFT_OUT = ("id", "name", "created_at", "updated_at", "planned_from", "needs_planning",
             "failures_open_incidents")  # fmt: skip


class Kind(ABC):
    """A kind of definition, each of which has a name that is unique among all kinds."""

    key: ClassVar[str]
    """Its key in the file."""
    required: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fields(self) -> Mapping[str, AnyField]:
        """Return the fields that a file may set, in the order in which they are exported."""

    @abstractmethod
    def rows(self) -> Mapping[str, tuple[Job, Values]]:
        """Return all rows of this kind with the values of their fields, by name."""

    @abstractmethod
    def values(self, job: Job) -> Values | None:
        """Return the values of the fields of one row; None if it is of another kind."""

    @abstractmethod
    def save(self, name: str, values: Values, row: Job | None) -> Job:
        """Create or change a row. Raises ValidationError."""

    def defaults(self) -> Fields:
        """Return the values of fields that a file does not mention."""
        return {name: default_of(field) for name, field in self.fields().items()}

    def clean(self, values: Values) -> Fields:
        """Return values of the right types. Raises ValidationError with the fields."""
        cleaned, errors = {}, {}
        for name, field in self.fields().items():
            if name not in values:
                continue
            try:
                cleaned[name] = _clean(field, values[name])
            except ValidationError as error:
                errors[name] = error.messages
        if errors:
            raise ValidationError(errors)
        return cleaned


def _clean(field: AnyField, value: JSON) -> JSON:
    """Return a value of the type of the field. A number is no text, and yes is no number."""
    if value is None and not field.null:
        raise ValidationError("must not be empty.")
    if isinstance(field, models.JSONField) or value is None:
        return value
    wanted: type | tuple[type, ...] = str
    if isinstance(field, models.BooleanField):
        wanted = bool
    elif isinstance(field, models.IntegerField):
        wanted = int
    elif isinstance(field, models.FloatField):
        wanted = (int, float)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        names = {str: "a text in quotes", bool: "true or false", int: "a whole number"}
        raise ValidationError(f"must be {names.get(wanted, 'a number')}, not {value!r}.")  # type: ignore[arg-type]
    return field.clean(value, None)


def default_of(field: AnyField) -> JSON:
    """Return the value of a field in a new row."""
    value = field.get_default()
    if isinstance(value, models.Choices):
        value = value.value
    return None if value == "" and field.null else value


def editable_fields(model: type[models.Model], left_out: tuple[str, ...]) -> dict[str, AnyField]:
    """Return the columns that people edit, other than relations."""
    return {
        field.name: field
        for field in model._meta.concrete_fields
        if field.editable and not field.is_relation and field.name not in (*_LEFT_OUT, *left_out)
    }


class JobKind(Kind):
    """Jobs that are no monitors."""

    key = "jobs"

    def fields(self) -> Mapping[str, AnyField]:
        """All that the form of a job has."""
        return editable_fields(Job, ())

    def rows(self) -> Mapping[str, tuple[Job, Values]]:
        """Jobs that no other kind has."""
        others = {name for kind in kinds() if kind is not self for name in kind.rows()}
        found = (job for job in Job.objects.order_by("name") if job.name not in others)
        return {job.name: (job, self.values(job)) for job in found}

    def values(self, job: Job) -> Values:
        """Those of any job: other kinds are asked first."""
        return {name: getattr(job, name) for name in self.fields()}

    def save(self, name: str, values: Values, row: Job | None) -> Job:
        """Create or change a job."""
        job = row or Job(name=name)
        for field, value in values.items():
            setattr(job, field, value)
        job.full_clean()
        if row is None:
            job.save()
        else:
            job.save(update_fields=[*values, "updated_at"])
        return job


_kinds: list[Kind] = [JobKind()]


def register_kind(kind: Kind) -> None:
    """Register a kind of another app."""
    if all(known.key != kind.key for known in _kinds):
        _kinds.append(kind)


def kinds() -> list[Kind]:
    """Return the kinds of all installed apps."""
    autodiscover_modules(MODULE)
    return list(_kinds)


def values_of(job: Job) -> Values:
    """Return the values of the fields that a file has for a job of any kind."""
    for kind in reversed(kinds()):
        if (found := kind.values(job)) is not None:
            return found
    return {}


def error_lines(path: str, error: ValidationError) -> list[str]:
    """Return one line for each message, with the path of its field."""
    if not hasattr(error, "error_dict"):
        return [f"{path}: {message}" for message in error.messages]
    return [
        f"{path if field == NON_FIELD_ERRORS else f'{path}.{field}'}: {message}"
        for field, messages in error.message_dict.items()
        for message in messages
    ]
