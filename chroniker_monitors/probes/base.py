"""What a probe is: a small dataclass with typed parameters, whose ``run()`` measures one number."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass
from importlib import import_module
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

from chroniker_monitors.exceptions import ParamsInvalid

Choice = tuple[str, str]
Choices = Sequence[Choice] | Callable[[], Sequence[Choice]]

_PARAM = "chroniker"
_MAX_TEXT = 20_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What a probe measured."""

    value: float
    message: str = ""
    unit: str = ""  # where it is not the one of the probe's class


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamField:
    """A parameter, with all that a form needs to know."""

    name: str
    label: str
    help: str
    type: type[Any]  # str, int, float or bool
    default: Any  # None where there is none
    required: bool
    choices: Choices | None = None
    multiline: bool = False
    secret: bool = False
    minimum: float | None = None
    maximum: float | None = None

    def options(self) -> list[Choice]:
        """The choices as they are now, value and label; empty where anything may be given."""
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
    default: Any = MISSING,
    *,
    label: str,
    help: str = "",
    choices: Choices | None = None,
    multiline: bool = False,
    secret: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """A parameter of a probe: a field of its dataclass with what a form needs.

    Without a default it has to be given. ``secret``: shown to nobody, masked in messages.
    """
    meta = _ParamMetadata(label, help, choices, multiline, secret, minimum, maximum)
    return dataclasses.field(default=default, repr=not secret, metadata={_PARAM: meta})


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseProbe:
    """The base of every kind of probe.

    A subclass is a ``@dataclass(frozen=True, slots=True, kw_only=True)`` with a ``kind``, and
    its parameters are fields made by :func:`param`: text, whole numbers, numbers, yes or no.
    """

    kind: ClassVar[str] = ""
    label: ClassVar[str] = ""
    description: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    passive: ClassVar[bool] = False
    """Measured by what others send, not by ``run()``."""
    permission: ClassVar[str] = ""
    """A permission that whoever defines such a monitor needs beside that for monitors."""
    modules: ClassVar[tuple[str, ...]] = ()
    """What ``run()`` imports and is worth importing before a fork."""

    @classmethod
    def preload(cls) -> None:
        """Do what is worth doing once, before the fork, instead of in each probe's process."""
        import_modules(cls.modules)

    @classmethod
    def may_reuse_secrets(cls, stored: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
        """Whether the secret parameters that are stored may go where the given ones lead.

        Else they have to be typed again: whoever may change a monitor need not know its secrets.
        """
        return True

    def run(self) -> Reading:
        """Measure. Whatever is raised means that the value is unknown, and why."""
        raise NotImplementedError

    def clean(self) -> None:
        """Raise ParamsInvalid where the parameters, each valid, do not go together."""


def import_modules(names: Sequence[str]) -> None:
    """Import what is there of these modules."""
    for name in names:
        with suppress(ImportError):
            import_module(name)


_fields: dict[type[Any], tuple[ParamField, ...]] = {}


def param_fields(cls: type[BaseProbe]) -> tuple[ParamField, ...]:
    """The parameters of a kind, in the order of its definition."""
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
    """The values of its secret parameters."""
    for field in dataclasses.fields(probe):
        meta: _ParamMetadata | None = field.metadata.get(_PARAM)
        value = getattr(probe, field.name)
        if meta is not None and meta.secret and isinstance(value, str):
            yield value


def _plain_type(hint: Any) -> type[Any]:
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    if hint not in (str, int, float, bool):
        raise TypeError(f"A parameter is a str, int, float or bool, not {hint!r}.")
    return hint  # type: ignore[no-any-return]


def probe_from_params(cls: type[BaseProbe], params: Any) -> BaseProbe:
    """A probe of this kind from its parameters, as they were stored in JSON.

    Raises ParamsInvalid with every message at once.
    """
    if not isinstance(params, dict):
        raise ParamsInvalid({"params": [f"A JSON object is needed, not {params!r:.50}."]})
    fields = {field.name: field for field in param_fields(cls)}
    errors: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for name in params.keys() - fields.keys():
        known = ", ".join(fields) or "none"
        errors[_printable_name(name)] = [f"{cls.kind} has no such parameter; it has: {known}."]
    for name, field in fields.items():
        if name not in params and field.required:
            errors[name] = ["This is needed."]
            continue
        if name not in params and field.choices is None:
            continue
        try:
            # A default, too, may be none of the choices of this site.
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


def _value(field: ParamField, given: Any) -> Any:
    if given is None and not field.required and field.default is None:
        return None
    value = _CONVERTERS[field.type](field, given)
    if field.choices is not None and (value or field.required):
        options = [option for option, _ in field.options()]
        if value not in options:
            some = ", ".join(options[:20]) + (", …" if len(options) > 20 else "")
            raise ValueError(f"{value!r} is none of: {some or 'nothing is there to choose'}.")
    return value


def _text(field: ParamField, given: Any) -> str:
    if not isinstance(given, str):
        raise ValueError(f"This is text, not {given!r:.50}.")
    text = given.replace("\r\n", "\n")
    breaks = "\n\t" if field.multiline else "\t"
    if any((ord(letter) < 32 and letter not in breaks) or ord(letter) == 127 for letter in text):
        raise ValueError("Control characters (such as a line break or NUL) cannot be part of it.")
    if len(text) > _MAX_TEXT:
        raise ValueError(f"This is longer than {_MAX_TEXT} characters.")
    text = text.strip()
    if field.required and not text:
        raise ValueError("This is needed.")
    return text


def _number(field: ParamField, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueError(f"This is a number, not {given!r:.50}.")
    if field.minimum is not None and given < field.minimum:
        raise ValueError(f"This is at least {field.minimum:g}.")
    if field.maximum is not None and given > field.maximum:
        raise ValueError(f"This is at most {field.maximum:g}.")
    return given


def _integer(field: ParamField, given: Any) -> int:
    number = _number(field, given)
    if number != int(number):
        raise ValueError(f"This is a whole number, not {given!r:.50}.")
    return int(number)


def _boolean(field: ParamField, given: Any) -> bool:
    if not isinstance(given, bool):
        raise ValueError(f"This is true or false, not {given!r:.50}.")
    return given


_CONVERTERS: dict[type[Any], Callable[[ParamField, Any], Any]] = {
    str: _text,
    int: _integer,
    float: lambda field, given: float(_number(field, given)),
    bool: _boolean,
}
