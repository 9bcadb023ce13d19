"""What a ``records`` monitor may ask of the database: models, fields, lookups and values.

Whoever may define a monitor need not be allowed to see what it counts: one yes or no a minute is
enough to guess a password's hash letter by letter. So all of it is on an allow-list.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeAlias, cast

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
Condition = tuple[str, Any]

_FORBIDDEN_APPS = {"auth", "sessions", "contenttypes", "admin"}
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
_BY_TYPE: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (models.BooleanField, ("exact", "isnull")),
    ((models.DateTimeField, models.DateField), _TIMES),
    (models.DurationField, _TIMES),
    ((models.IntegerField, models.FloatField, models.DecimalField), _NUMBERS),
    ((models.FileField,), ("isnull",)),
    ((models.CharField, models.TextField, models.GenericIPAddressField), _TEXTS),
    (models.UUIDField, ("exact", "in", "isnull")),
)


def is_secret(name: str) -> bool:
    """Whether a field's name tells of something that nobody should be able to guess at."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().split("_")
    return bool(_SECRET_PARTS.search(name) or _SECRET_WORDS & set(words))


def _is_credentials(model: Model) -> bool:
    """Users, groups, permissions, sessions: what says who may do what."""
    user = settings.AUTH_USER_MODEL.lower()
    from django.contrib.sessions.base_session import AbstractBaseSession

    return (
        any(
            parent._meta.label_lower == user
            for parent in cast(list[Any], model.__mro__)
            if _is_model(parent)
        )
        or model._meta.app_label in _FORBIDDEN_APPS
        or issubclass(model, AbstractBaseSession)
    )


def _is_model(candidate: Any) -> bool:
    return hasattr(candidate, "_meta") and not candidate._meta.abstract


def is_countable(model: Model) -> bool:
    """Whether the site lets monitors count this model's rows."""
    named = conf.MONITORS_MODELS
    if named is not None:
        return model._meta.label_lower in {str(label).lower() for label in named}
    return (
        not _is_credentials(model)
        and not any(is_secret(field.name) for field in model._meta.concrete_fields)
        and not model._meta.swapped
    )


def model_choices() -> list[tuple[str, str]]:
    """The models that monitors may count."""
    return sorted(
        (model._meta.label, f"{model._meta.label} ({model._meta.verbose_name_plural})")
        for model in apps.get_models()
        if is_countable(model)
    )


def field_names(label: str) -> list[str]:
    """The fields of such a model that monitors may look at."""
    return [
        field.name for field in get_model(label)._meta.concrete_fields if not is_secret(field.name)
    ]


def get_model(label: str) -> Model:
    """The model of a label. Raises ProbeError."""
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        raise ProbeError(f"There is no model {label!r:.80}; write it as app_label.Model.") from None
    if not is_countable(model):
        raise ProbeError(
            f"This site does not let monitors count {model._meta.label}; "
            "CHRONIKER_MONITORS_MODELS can list it."
        )
    return model


def get_field(model: Model, name: str) -> Field:
    """A column of the model. Raises ProbeError."""
    known = ", ".join(field_names(model._meta.label))
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        raise ProbeError(
            f"{model._meta.label} has no field {name!r:.80}; it has: {known}."
        ) from None
    if not isinstance(field, models.Field) or field.many_to_many or not field.concrete:
        raise ProbeError(f"{name} is no column of {model._meta.label}; it has: {known}.")
    if is_secret(field.name):
        raise ProbeError(f"Monitors do not look at {name}: its name tells of a secret.")
    return field


@dataclass(frozen=True, slots=True)
class _Target:
    """What a condition compares: a column, or a part of a date in it."""

    field: Field
    part: str  # such as "year"; empty: the column itself
    lookup: str


def parse_conditions(model: Model, text: str, now: datetime) -> list[Condition]:
    """Lines such as ``status = failed`` or ``created__gte = now-1h``, checked and converted.

    Raises ProbeError.
    """
    found = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("#"):
            continue
        path, equals, value = (piece.strip() for piece in line.partition("="))
        if not equals or value.startswith("="):
            raise ProbeError(f"{line!r:.80} is no condition; write `field = value`.")
        target = _target(model, path)
        found.append((path, _convert(target, value, now)))
    return found


def _target(model: Model, path: str) -> _Target:
    if not _PATH.fullmatch(path):
        shown = path.encode("ascii", "backslashreplace").decode()
        raise ProbeError(
            f"{shown!r:.80} is no field; write its name, and perhaps a lookup, such as "
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
            f"{wrong!r:.80} cannot be asked of {field.name}; it takes: "
            f"{', '.join([*allowed, *(() if part else _parts(field))])}."
        )
    return _Target(field, part, lookup)


def _follow_relation(model: Model, field: Field, name: str) -> Field:
    """The field on the other side of a foreign key: one step, to a model that may be counted."""
    related: Any = field.related_model
    if not isinstance(related, type) or _is_credentials(related) or not is_countable(related):
        raise ProbeError(
            f"Monitors do not look from {model._meta.label} through {field.name}: this site does "
            "not let them count what is there."
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


def _convert(target: _Target, text: str, now: datetime) -> Any:
    name = target.field.name
    if target.lookup == "isnull":
        if text.lower() not in ("true", "false"):
            raise ProbeError(f"{name}__isnull is true or false, not {text!r:.50}.")
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
        raise ProbeError(f"{text!r:.80} is no value for {name}: {said}") from error


def _split(name: str, text: str, exactly: int = 0) -> list[str]:
    pieces = text.split(",")
    if exactly and len(pieces) != exactly:
        raise ProbeError(f"A range of {name} is two values with a comma between them.")
    if len(pieces) > _MAX_VALUES:
        raise ProbeError(f"{name} is compared with at most {_MAX_VALUES} values.")
    return pieces


def _converter(target: _Target, now: datetime) -> Callable[[str], Any]:
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


def _parse_value(field: Field, text: str) -> Any:
    value = field.to_python(text)
    if value is None:
        raise ValueError("it is empty; use isnull.")
    if isinstance(value, float) and value != value:
        raise ValueError("it is no number.")
    return value


def _parse_boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("write true or false.")
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
