"""The models, fields, lookups and values that a ``records`` monitor may use in a query.

A user who may define monitors need not be allowed to see the rows that are counted, and one yes
or no per minute is enough to guess a password hash, or the output of a job, letter by letter. So
everything is checked against an allow-list.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, TypeAlias, TypeGuard

from django.apps import apps
from django.conf import settings
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models
from django.utils import timezone

from chroniker_monitors.conf import conf
from chroniker_monitors.exceptions import ProbeError

from .relative_time import parse_relative

Model = type[models.Model]
Field: TypeAlias = "models.Field[Any, Any]"
Condition = tuple[str, object]

_FORBIDDEN_APPS = {"auth", "sessions", "contenttypes", "admin"}
_FORBIDDEN_MODELS = {"chroniker.outputchunk"}
"""Output has a permission of its own, whatever the setting says."""
_OWN_APPS = {"chroniker", "chroniker_monitors"}
_OWN_TEXTS = {"error", "last_error", "message", "summary", "resolution", "blocked_detail"}
"""Short texts in which Chroniker stores what jobs and probes reported."""
_SECRET_PARTS = re.compile(
    r"passw|pwd|passphrase|secret|token|credential|api_?key|private|signature|session|cookie",
    re.IGNORECASE,
)
_SECRET_WORDS = {
    "key", "keys", "hash", "salt", "pass", "otp", "totp", "pin", "nonce", "cvv", "cvc", "iban",
    "ssn", "digest", "hmac", "seed", "mnemonic",
}  # fmt: skip
_PATH = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*(?:__[a-z][a-z0-9]*(?:_[a-z0-9]+)*)*", re.ASCII)
_MAX_VALUES = 1000

_COMPARE = ("lt", "lte", "gt", "gte", "range")
_NUMBERS = ("exact", "in", "isnull", *_COMPARE)
_TEXTS = (
    "exact", "iexact", "in", "isnull", "contains", "icontains", "startswith", "istartswith",
    "endswith", "iendswith",
)  # fmt: skip
_TIMES = ("exact", "isnull", *_COMPARE)
_PARTS = {
    models.DateTimeField: ("date", "year", "month", "day", "week_day", "hour"),
    models.DateField: ("year", "month", "day", "week_day"),
}
_BY_TYPE: tuple[tuple[tuple[type[Field], ...], tuple[str, ...]], ...] = (
    ((models.BooleanField,), ("exact", "isnull")),
    ((models.DateTimeField, models.DateField), _TIMES),
    ((models.DurationField,), _TIMES),
    ((models.IntegerField, models.FloatField, models.DecimalField), _NUMBERS),
    ((models.FileField,), ("isnull",)),
    ((models.CharField, models.TextField, models.GenericIPAddressField), _TEXTS),
    ((models.UUIDField,), ("exact", "in", "isnull")),
)


_GROUPED = (
    models.BooleanField, models.IntegerField, models.CharField, models.DateField,
    models.ForeignKey,
)  # fmt: skip
_NOT_GROUPED = (models.EmailField, models.URLField, models.DateTimeField)


@cache
def is_secret(name: str) -> bool:
    """Whether the name of a field suggests that its values are secret."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().split("_")
    return bool(_SECRET_PARTS.search(name) or _SECRET_WORDS & set(words))


def _is_free_text(field: Field) -> bool:
    """Whether a field of Chroniker's own may hold output, arguments or an error."""
    return field.model._meta.app_label in _OWN_APPS and (
        isinstance(field, models.TextField | models.JSONField) or field.name in _OWN_TEXTS
    )


def _is_usable(field: Field) -> bool:
    return not is_secret(field.name) and not _is_free_text(field)


def _is_protected(model: Model) -> bool:
    """Whether a model holds output, users, groups, permissions or sessions."""
    user = settings.AUTH_USER_MODEL.lower()
    from django.contrib.sessions.base_session import AbstractBaseSession

    return (
        any(
            parent._meta.label_lower == user
            for parent in model.__mro__
            if _is_concrete_model(parent)
        )
        or model._meta.app_label in _FORBIDDEN_APPS
        or model._meta.label_lower in _FORBIDDEN_MODELS
        or issubclass(model, AbstractBaseSession)
    )


def _is_concrete_model(candidate: type) -> TypeGuard[Model]:
    meta = getattr(candidate, "_meta", None)
    return meta is not None and not meta.abstract


def is_countable(model: Model) -> bool:
    """Whether the site allows monitors to count the rows of this model."""
    named = conf.MONITORS_MODELS
    labels = None if named is None else frozenset(str(label).lower() for label in named)
    return _is_countable(model, labels, settings.AUTH_USER_MODEL.lower())


@cache
def _is_countable(model: Model, labels: frozenset[str] | None, user: str) -> bool:
    """The same for these settings. Each probe of kind records asks it of all models."""
    if labels is not None:
        return model._meta.label_lower in labels - _FORBIDDEN_MODELS
    return (
        not _is_protected(model)
        and not any(is_secret(field.name) for field in model._meta.concrete_fields)
        and not model._meta.swapped
    )


def model_choices() -> list[tuple[str, str]]:
    """Return the models that monitors may count."""
    return sorted(
        (model._meta.label, f"{model._meta.label} ({model._meta.verbose_name_plural})")
        for model in apps.get_models()
        if is_countable(model)
    )


def field_names(label: str) -> list[str]:
    """Return the fields of a model that monitors may use."""
    return [field.name for field in get_model(label)._meta.concrete_fields if _is_usable(field)]


def group_names(label: str) -> list[str]:
    """Return the fields of a model that may define groups."""
    model = get_model(label)
    found = []
    for name in field_names(label):
        with suppress(ProbeError):
            get_group_field(model, name)
            found.append(name)
    return found


def get_model(label: str) -> Model:
    """Return the model with this label. Raises ProbeError."""
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        raise ProbeError(f"There is no model {label!r:.80}. Enter it as app_label.Model.") from None
    if not is_countable(model):
        raise ProbeError(
            f"This site does not allow monitors to count {model._meta.label}. Add it to "
            "CHRONIKER_MONITORS_MODELS."
        )
    return model


def get_field(model: Model, name: str) -> Field:
    """Return a concrete field of the model. Raises ProbeError."""
    known = ", ".join(field_names(model._meta.label))
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        raise ProbeError(
            f"{model._meta.label} has no field {name!r:.80}. It has: {known}."
        ) from None
    if not isinstance(field, models.Field) or field.many_to_many or not field.concrete:
        raise ProbeError(f"{name} is not a column of {model._meta.label}. It has: {known}.")
    if is_secret(field.name):
        raise ProbeError(f"Monitors must not use {name}: its name suggests a secret.")
    if _is_free_text(field):
        raise ProbeError(
            f"Monitors must not use {name} of {model._meta.label}: it may hold output of jobs, "
            "arguments or errors."
        )
    return field


def get_group_field(model: Model, path: str) -> Field:
    """Return the field at a path such as ``status`` or ``shop__country``. Raises ProbeError.

    Its values become names that everybody sees who may see the monitor. So it must have few
    different values, and be none that identifies a person or a row.
    """
    if not _PATH.fullmatch(path) or path.count("__") > 1:
        shown = path.encode("ascii", "backslashreplace").decode()
        raise ProbeError(
            f"{shown!r:.80} is not a field. Enter its name, or that of a related model's field, "
            "such as `status` or `shop__country`."
        )
    first, *rest = path.split("__")
    field = get_field(model, first)
    if rest:
        if not field.is_relation:
            raise ProbeError(f"{first} is not a relation, so it has no field {rest[0]!r:.80}.")
        field = _follow_relation(model, field, rest[0])
    if field.unique or not isinstance(field, _GROUPED) or isinstance(field, _NOT_GROUPED):
        raise ProbeError(
            f"{path} cannot be used for groups. Use a field with few different values: a choice, "
            "a short text, a whole number, a boolean, a date or a relation."
        )
    return field


@dataclass(frozen=True, slots=True)
class _Target:
    """The left side of a condition: a field, or a part of its date."""

    field: Field
    part: str  # such as "year"; empty: the field itself
    lookup: str


def parse_conditions(model: Model, text: str, now: datetime) -> list[Condition]:
    """Parse and check lines such as ``status = failed`` or ``created__gte = now-1h``.

    Raises ProbeError.
    """
    found = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("#"):
            continue
        path, equals, value = (piece.strip() for piece in line.partition("="))
        if not equals or value.startswith("="):
            raise ProbeError(f"{line!r:.80} is not a condition. Enter `field = value`.")
        target = _target(model, path)
        found.append((path, _convert(target, value, now)))
    return found


def _target(model: Model, path: str) -> _Target:
    if not _PATH.fullmatch(path):
        shown = path.encode("ascii", "backslashreplace").decode()
        raise ProbeError(
            f"{shown!r:.80} is not a field. Enter its name, optionally with a lookup, such as "
            "`status` or `created__gte`."
        )
    first, *rest = path.split("__")
    field = get_field(model, first)
    if rest and field.is_relation and rest[0] not in ("exact", "in", "isnull"):
        field = _follow_relation(model, field, rest.pop(0))
    part = ""
    if rest and rest[0] in _parts(field):
        part = rest.pop(0)
    lookup = rest.pop(0) if rest else "exact"
    allowed = _lookups(field, part)
    if rest or lookup not in allowed:
        wrong = "__".join([lookup, *rest])
        raise ProbeError(
            f"{field.name} does not support {wrong!r:.80}. It supports: "
            f"{', '.join([*allowed, *(() if part else _parts(field))])}."
        )
    return _Target(field, part, lookup)


def _follow_relation(model: Model, field: Field, name: str) -> Field:
    """Return a field of the model that a foreign key points to, if that model may be counted."""
    related = field.related_model
    if not isinstance(related, type) or _is_protected(related) or not is_countable(related):
        raise ProbeError(
            f"Monitors must not follow {field.name} of {model._meta.label}: this site does not "
            "allow them to count the related model."
        )
    return get_field(related, name)


def _parts(field: Field) -> tuple[str, ...]:
    for kind, parts in _PARTS.items():
        if isinstance(field, kind):
            return parts
    return ()


def _lookups(field: Field, part: str) -> tuple[str, ...]:
    if part:
        return tuple(lookup for lookup in _NUMBERS if part != "date" or lookup != "in")
    if field.is_relation:
        return ("exact", "in", "isnull")
    for kinds, lookups in _BY_TYPE:
        if isinstance(field, kinds):
            return lookups
    return ("isnull",)


def _convert(target: _Target, text: str, now: datetime) -> object:
    name = target.field.name
    if target.lookup == "isnull":
        if text.lower() not in ("true", "false"):
            raise ProbeError(f"{name}__isnull must be true or false, not {text!r:.50}.")
        return text.lower() == "true"
    convert = _converter(target, now)
    try:
        if target.lookup == "in":
            return [convert(piece.strip()) for piece in _split(name, text)]
        if target.lookup == "range":
            first, last = _split(name, text, exactly=2)
            return (convert(first.strip()), convert(last.strip()))
        return convert(text)
    except (ValidationError, ValueError, TypeError, OverflowError) as error:
        said = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
        raise ProbeError(f"{text!r:.80} is not a valid value for {name}: {said}") from error


def _split(name: str, text: str, exactly: int = 0) -> list[str]:
    pieces = text.split(",")
    if exactly and len(pieces) != exactly:
        raise ProbeError(f"A range of {name} must be two values separated by a comma.")
    if len(pieces) > _MAX_VALUES:
        raise ProbeError(f"{name} can be compared with at most {_MAX_VALUES} values.")
    return pieces


def _converter(target: _Target, now: datetime) -> Callable[[str], object]:
    field = target.field
    if target.part and target.part != "date":
        return int
    if field.is_relation:
        field = field.target_field  # type: ignore[attr-defined]
    if isinstance(field, models.DateField):
        moment = isinstance(field, models.DateTimeField) and target.part != "date"
        return lambda text: _parse_time(text, now, moment=moment)
    if isinstance(field, models.BooleanField):
        return _parse_boolean
    if isinstance(field, models.DurationField):
        return field.to_python
    return lambda text: _parse_value(field, text)


def _parse_value(field: Field, text: str) -> object:
    value: object = field.to_python(text)
    if value is None:
        raise ValueError("it is empty. Use isnull.")
    if isinstance(value, float) and value != value:
        raise ValueError("it is not a number.")
    return value


def _parse_boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("enter true or false.")
    return text.lower() == "true"


def _parse_time(text: str, now: datetime, *, moment: bool) -> date | datetime:
    relative = parse_relative(text, now)
    if relative is not None:
        return relative if moment else relative.date()
    if not moment:
        return date.fromisoformat(text)
    value = datetime.fromisoformat(text)
    if timezone.is_naive(value) and settings.USE_TZ:
        value = timezone.make_aware(value)
    return value
