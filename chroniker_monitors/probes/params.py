"""Parameters of probes: their definition, and the check of stored values."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from chroniker_monitors.exceptions import ParamsInvalid

from .base import BaseProbe

ParamValue = str | int | float | bool
_PARAM_TYPES: tuple[type[ParamValue], ...] = (str, int, float, bool)

Choice = tuple[str, str]
Choices = Sequence[Choice] | Callable[[], Sequence[Choice]]

_PARAM = "chroniker"
_MAX_TEXT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamField:
    """A parameter, with everything that a form needs to show it."""

    name: str
    label: str
    help: str
    type: type[ParamValue]
    default: ParamValue | None  # None if there is none
    required: bool
    choices: Choices | None = None
    multiline: bool = False
    secret: bool = False
    minimum: float | None = None
    maximum: float | None = None

    def options(self) -> list[Choice]:
        """Return the current choices as (value, label); empty if any value is allowed."""
        if self.choices is None:
            return []
        return list(self.choices() if callable(self.choices) else self.choices)


@dataclass(frozen=True, slots=True)
class _ParamMetadata:
    label: str
    help: str
    choices: Choices | None
    multiline: bool
    secret: bool
    minimum: float | None
    maximum: float | None


def param(
    default: object = MISSING,
    *,
    label: str,
    help: str = "",
    choices: Choices | None = None,
    multiline: bool = False,
    secret: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """Define a parameter of a probe: a dataclass field with everything that a form needs.

    A parameter without a default is required. ``secret``: never shown, and masked in messages.
    Returns Any, as ``dataclasses.field`` does, because the field's annotation gives the type.
    """
    meta = _ParamMetadata(label, help, choices, multiline, secret, minimum, maximum)
    return dataclasses.field(default=default, repr=not secret, metadata={_PARAM: meta})


_fields: dict[type[BaseProbe], tuple[ParamField, ...]] = {}


def param_fields(cls: type[BaseProbe]) -> tuple[ParamField, ...]:
    """Return the parameters of a kind, in the order of their definition."""
    if cls not in _fields:
        _fields[cls] = tuple(_read_fields(cls))
    return _fields[cls]


def _read_fields(cls: type[BaseProbe]) -> Iterator[ParamField]:
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        meta: _ParamMetadata = field.metadata.get(_PARAM) or _ParamMetadata(
            field.name.replace("_", " ").capitalize(), "", None, False, False, None, None
        )
        yield ParamField(
            name=field.name,
            label=meta.label,
            help=meta.help,
            type=_plain_type(hints[field.name]),
            default=None if field.default is MISSING else field.default,
            required=field.default is MISSING,
            choices=meta.choices,
            multiline=meta.multiline,
            secret=meta.secret,
            minimum=meta.minimum,
            maximum=meta.maximum,
        )


def secret_values(probe: BaseProbe) -> Iterator[str]:
    """Yield the values of the probe's secret parameters."""
    for field in dataclasses.fields(probe):
        meta: _ParamMetadata | None = field.metadata.get(_PARAM)
        value = getattr(probe, field.name)
        if meta is not None and meta.secret and isinstance(value, str):
            yield value


def _plain_type(hint: object) -> type[ParamValue]:
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    for plain in _PARAM_TYPES:
        if hint is plain:
            return plain
    raise TypeError(f"A parameter must be a str, int, float or bool, not {hint!r}.")


def probe_from_params(cls: type[BaseProbe], params: object) -> BaseProbe:
    """Create a probe of this kind from its parameters, as stored in JSON.

    Raises ParamsInvalid with the messages for all parameters.
    """
    if not isinstance(params, dict):
        raise ParamsInvalid({"params": [f"This must be a JSON object, not {params!r:.50}."]})
    fields = {field.name: field for field in param_fields(cls)}
    errors: dict[str, list[str]] = {}
    values: dict[str, ParamValue | None] = {}
    for name in params.keys() - fields.keys():
        known = ", ".join(fields) or "none"
        errors[_printable_name(name)] = [f"{cls.kind} has no such parameter. It has: {known}."]
    for name, field in fields.items():
        if name not in params and field.required:
            errors[name] = ["This parameter is required."]
            continue
        if name not in params and field.choices is None:
            continue
        try:
            # The default is checked too: it may not be among the choices on this site.
            values[name] = _value(field, params.get(name, field.default))
        except ValueError as error:
            errors[name] = [str(error)]
    if errors:
        raise ParamsInvalid(errors)
    probe = cls(**values)
    probe.clean()
    return probe


def _printable_name(name: object) -> str:
    return ascii(str(name))[1:-1][:50] or "''"


def _value(field: ParamField, given: object) -> ParamValue | None:
    if given is None and not field.required and field.default is None:
        return None
    value = _CONVERTERS[field.type](field, given)
    if field.choices is not None and (value or field.required):
        options = [option for option, _ in field.options()]
        if value not in options:
            some = ", ".join(options[:20]) + (", …" if len(options) > 20 else "")
            if not some:
                raise ValueError(f"{value!r} cannot be chosen: this site has no choices for it.")
            raise ValueError(f"{value!r} is not one of: {some}.")
    return value


def _text(field: ParamField, given: object) -> str:
    if not isinstance(given, str):
        raise ValueError(f"This must be text, not {given!r:.50}.")
    text = given.replace("\r\n", "\n")
    breaks = "\n\t" if field.multiline else "\t"
    if any((ord(letter) < 32 and letter not in breaks) or ord(letter) == 127 for letter in text):
        raise ValueError("Control characters (such as a line break or NUL) are not allowed.")
    if len(text) > _MAX_TEXT:
        raise ValueError(f"This must not be longer than {_MAX_TEXT} characters.")
    text = text.strip()
    if field.required and not text:
        raise ValueError("This parameter is required.")
    return text


def _number(field: ParamField, given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueError(f"This must be a number, not {given!r:.50}.")
    if field.minimum is not None and given < field.minimum:
        raise ValueError(f"This must be at least {field.minimum:g}.")
    if field.maximum is not None and given > field.maximum:
        raise ValueError(f"This must be at most {field.maximum:g}.")
    return given


def _integer(field: ParamField, given: object) -> int:
    number = _number(field, given)
    if number != int(number):
        raise ValueError(f"This must be a whole number, not {given!r:.50}.")
    return int(number)


def _boolean(field: ParamField, given: object) -> bool:
    if not isinstance(given, bool):
        raise ValueError(f"This must be true or false, not {given!r:.50}.")
    return given


_CONVERTERS: dict[type[ParamValue], Callable[[ParamField, object], ParamValue]] = {
    str: _text,
    int: _integer,
    float: lambda field, given: float(_number(field, given)),
    bool: _boolean,
}
